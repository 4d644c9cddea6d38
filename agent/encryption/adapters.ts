import type { Ip } from "../../shared/ip.ts";
import type { DataPathProof, Guards } from "../kernel/port.ts";
import type { IpsecKernel } from "./ipsec/port.ts";
import type { Secret } from "./secret.ts";
import type { WireguardTunnel } from "./wireguard/port.ts";

/** What encryption needs of the machine. */
export interface EncryptionAdapters {
  readonly wireguard: WireguardTunnel;
  /** This host's; made when there is none. @throws INVALID */
  readonly wireguardKey: () => Secret;
  /** In the place of the one before. */
  readonly keepWireguardKey: (key: Secret) => void;
  /** New ones, of WireGuard's transport namespace. */
  readonly transportGuards: () => Guards;
  /** @throws UNSUPPORTED or NETLINK: a kernel without it. */
  readonly ipsec: (local: Ip, udpPort: number) => IpsecKernel;
  /** What hosts are asked through under ESP. */
  readonly ipsecProof: DataPathProof;
  /** VXLAN devices of this port are set down. @throws NETLINK */
  readonly classDown: (udpPort: number) => Promise<void>;
}
