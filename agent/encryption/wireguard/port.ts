import type { Ip } from "../../../shared/ip.ts";
import type {
  DesiredWireguard,
  WireguardKey,
  WireguardPeerState,
} from "../../core/keys/wireguard.ts";
import type { Secret } from "../secret.ts";

/** The device as it was read, without the private key. */
export interface WireguardState {
  /** Which implementation runs the device. */
  readonly by: "kernel" | "wireguard-go";
  readonly publicKey: WireguardKey | undefined;
  readonly listenPort: number;
  /** Its address, of which the class's VXLAN sockets speak; undefined: none yet. */
  readonly inside: Ip | undefined;
  readonly mtuBytes: number;
  readonly up: boolean;
  readonly peers: readonly WireguardPeerState[];
}

/**
 * The one WireGuard device of this host, in the transport namespace: nothing but it and the VXLAN
 * sockets of its class is there, so without it their frames go nowhere.
 */
export interface WireguardTunnel {
  /** Where VXLAN devices of WireGuard networks are made, then moved; there after the first `set`. */
  readonly transportNetns: string;
  /**
   * The device is as desired when this resolves. What stands already is kept: only the peers that
   * differ are written, and an endpoint that the device has learnt stays.
   * @throws UNSUPPORTED when the host has no WireGuard at all, NETLINK with op and errno.
   */
  set(privateKey: Secret, desired: DesiredWireguard): Promise<void>;
  /** Undefined: there is no device. */
  read(): Promise<WireguardState | undefined>;
  /** What the next `set` of the same would mend, in words for `verify`; empty: nothing. */
  faults(privateKey: Secret, desired: DesiredWireguard): Promise<string[]>;
  /** Milliseconds until a peer's kernel answered an echo of that size, DF set; undefined: it did not within the time. */
  echo(inside: Ip, bytes: number, timeoutMs: number): Promise<number | undefined>;
  /** Called when the device or its address is lost behind our back; the next `set` puts it back. */
  onLoss(listener: () => void): void;
  /** For `leave`: nothing of ours stays. */
  remove(): Promise<void>;
  /** Sockets only: the tunnel goes on while this agent restarts. */
  close(): Promise<void>;
}
