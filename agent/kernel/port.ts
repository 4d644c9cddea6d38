import type { EndpointId, NetworkId } from "../../shared/ids.ts";
import type { Failure } from "../../shared/errors.ts";
import type { Family, Ip } from "../../shared/ip.ts";
import type {
  ActualNetwork,
  Asked,
  DesiredGuards,
  DesiredProof,
  InterfaceAddress,
  Step,
} from "../core/data-plane/kernel-state.ts";

/** The data plane of one host. Every write is a replace; every failure throws NETLINK with op and errno. */
export interface Kernel {
  /** Networks that have any object of ours, known by name alone (adoption at start). */
  list(): Promise<NetworkId[]>;
  read(network: NetworkId): Promise<ActualNetwork>;
  /** In order; stops at the first failure. What was written is dumped and compared after a failure. */
  apply(network: NetworkId, steps: readonly Step[]): Promise<void>;
  /** The other end of a port's veth, in the host namespace: ready for Docker to move, or the host's own. */
  containerLink(endpoint: EndpointId): string;
  /** Such ends that are in the host's namespace now, by name: none of a running container should be. */
  endsHere(): Promise<ReadonlySet<string>>;
  /**
   * One that is here, into the container's namespace: under the first free name of `eth*`, which is the one that
   * it had, up, with its addresses, and with a default route by each of `gateways` whose family has none there.
   * @throws NETLINK
   */
  giveBackEnd(
    endpoint: EndpointId,
    sandbox: string,
    addresses: readonly InterfaceAddress[],
    gateways: readonly Ip[],
  ): Promise<void>;
  /** Called with the network whose links or neighbours changed behind our back. */
  onChange(listener: (network: NetworkId) => void): void;
  /** The next read of each network believes nothing that was read before. */
  recheck(): void;
  close(): Promise<void>;
}

/** What guards have cost since they were opened, in elements of sets. */
export interface GuardWork {
  /** That were listed. */
  readonly read: number;
  /** Added and deleted ones; all of them when the table was written whole. */
  readonly written: number;
  /** Times that what is kept of them by what changes was not what the whole says. */
  readonly drifts: number;
}

/** nftables of the host namespace, own table, written whole then by difference, verified, watched. */
export interface Guards {
  set(desired: DesiredGuards): Promise<void>;
  /** True when the kernel's table is what `set` wrote. */
  verify(): Promise<boolean>;
  /** Packets dropped, by reason: see README.md, "Who is guarded against". */
  counters(): Promise<Readonly<Record<string, number>>>;
  work(): GuardWork;
  onTamper(listener: () => void): void;
  /**
   * For `leave`: nothing of ours stays, but where containers still run what keeps them from reaching `sealed`
   * by another way. There is no moment without.
   */
  remove(options?: { keepSealed?: boolean }): Promise<void>;
  close(): Promise<void>;
}

/** docker_gwbridge, one layer 2 for containers of all networks: its ports are isolated, and bound to their addresses. */
export interface WayOut {
  /** As its ports are now. @throws NETLINK: of one that is still there; the others are done. */
  set(): Promise<void>;
  /** What the next `set` would mend, in words for `verify`; empty: nothing. */
  faults(): Promise<string[]>;
  /** Called when its ports, or what we wrote, may be others: the next `set` looks. */
  onChange(listener: () => void): void;
  /** The next `set` believes nothing of what was written. */
  recheck(): void;
  /** For `leave`: the filter goes; ports that are isolated stay so, and go with their containers. */
  remove(): Promise<void>;
  close(): void;
}

/**
 * The host's part of networks' transits: their packets leave by its own address, reach no other network, and pass
 * what drops packets in between.
 */
export interface Egress {
  /** @throws NETLINK: nothing protects a network from another's transit */
  set(): Promise<void>;
  /** Why a container would not get out by a transit, as the last `set` found; undefined: it would. */
  blocked(family: Family): Failure | undefined;
  /** What the next `set` would mend, in words for `verify`; empty: nothing. */
  faults(): Promise<string[]>;
  /** Packets dropped, by reason. */
  counters(): Promise<Readonly<Record<string, number>>>;
  /** Called when what was written, or what it depends on, may be another: the next `set` looks. */
  onChange(listener: () => void): void;
  /** The next `set` believes nothing of what was written. */
  recheck(): void;
  /** For `leave`: nothing of ours stays. */
  remove(): Promise<void>;
  close(): void;
}

export interface ProbeResult {
  readonly address: Ip;
  /** Undefined: no answer within the time. */
  readonly roundTripMs: number | undefined;
  readonly bytes: number;
}

/** ICMP at full MTU with DF through a class, by its proof network or what else answers there: the peer's kernel. */
export interface DataPathProof<Desired extends Asked = DesiredProof> {
  /**
   * @param stands what stands by the last `set`: with it the difference is written, and nothing is looked at
   */
  set(desired: Desired, stands?: Desired): Promise<void>;
  /** What the next `set` of the same would mend, in words for `verify`; empty: nothing. */
  faults(desired: Desired): Promise<string[]>;
  /** Called when something of it is lost behind our back; the next `set` puts it back. */
  onLoss(listener: () => void): void;
  /** `bytes`: of the IPv4 packet; the whole MTU unless it says otherwise. */
  probe(address: Ip, timeoutMs: number, bytes?: number): Promise<ProbeResult>;
  /** For `leave`: nothing of ours stays. */
  remove(): Promise<void>;
  close(): Promise<void>;
}
