import type { EndpointId, NetworkId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { ActualNetwork, DesiredGuards, DesiredProof, Step } from "../core/data-plane.ts";

/** The data plane of one host. Every write is a replace; every failure throws NETLINK with op and errno. */
export interface Kernel {
  /** Networks that have any object of ours, known by name alone (adoption at start). */
  list(): Promise<NetworkId[]>;
  read(network: NetworkId): Promise<ActualNetwork>;
  /** In order; stops at the first failure. What was written is dumped and compared after a failure. */
  apply(network: NetworkId, steps: readonly Step[]): Promise<void>;
  /** The other end of a port's veth, in the host namespace: ready for Docker to move, or the host's own. */
  containerLink(endpoint: EndpointId): string;
  /** Called with the network whose links or neighbours changed behind our back. */
  onChange(listener: (network: NetworkId) => void): void;
  /** The next read of each network believes nothing that was read before. */
  recheck(): void;
  close(): Promise<void>;
}

/** nftables of the host namespace, own table, written whole then by difference, verified, watched. */
export interface Guards {
  set(desired: DesiredGuards): Promise<void>;
  /** True when the kernel's table is what `set` wrote. */
  verify(): Promise<boolean>;
  /** Packets dropped, by reason: see README.md, "Who is guarded against". */
  counters(): Promise<Readonly<Record<string, number>>>;
  onTamper(listener: () => void): void;
  /** For `leave`: nothing of ours stays. */
  remove(): Promise<void>;
  close(): Promise<void>;
}

export interface ProbeResult {
  readonly address: Ip;
  /** Undefined: no answer within the time. */
  readonly roundTripMs: number | undefined;
  readonly bytes: number;
}

/** ICMP at full MTU with DF through the proof network, answered by the peer's kernel. */
export interface DataPathProof {
  set(desired: DesiredProof): Promise<void>;
  probe(address: Ip, timeoutMs: number): Promise<ProbeResult>;
  /** For `leave`: nothing of ours stays. */
  remove(): Promise<void>;
  close(): Promise<void>;
}
