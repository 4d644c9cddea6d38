import { z } from "zod";
import type { Ip } from "../../shared/ip.ts";

/** A Curve25519 public key as wg(8) writes it: 32 bytes in base64. */
export const WireguardKey = z
  .string()
  .regex(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/, "not a WireGuard key")
  .brand<"WireguardKey">();
export type WireguardKey = z.infer<typeof WireguardKey>;

export interface WireguardEndpoint {
  readonly ip: Ip;
  readonly port: number;
}

export interface WireguardPeer {
  readonly publicKey: WireguardKey;
  /** Where it is dialled until it is heard from elsewhere. */
  readonly endpoint: WireguardEndpoint;
  /** The one address it may speak from. */
  readonly inside: Ip;
  /** 0: only when there is something to send. */
  readonly keepaliveSeconds: number;
}

/** All that the host's WireGuard device should be; a pure function of the tables. */
export interface DesiredWireguard {
  readonly listenPort: number;
  readonly ownInside: Ip;
  readonly prefixLength: number;
  /** Of the device: what the underlay leaves. */
  readonly mtuBytes: number;
  readonly peers: readonly WireguardPeer[];
  /** Hosts that are admitted and have not said their key yet: what stands for them stays. */
  readonly undecided: readonly Ip[];
}

/** A peer as the device has it. */
export interface WireguardPeerState {
  readonly publicKey: WireguardKey;
  /** Learnt from its packets, or as written; undefined: neither yet. */
  readonly endpoint: WireguardEndpoint | undefined;
  /** What it may speak from; ours have one each. */
  readonly inside: readonly Ip[];
  readonly keepaliveSeconds: number;
  /** Wall clock; undefined: never. */
  readonly lastHandshakeMs: number | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
}
