import type { ControlChannel } from "../controller/wire/channel.ts";
import type { Cidr, Ip } from "../shared/ip.ts";
import type { DockerEngine } from "./docker/engine-port.ts";
import type { NameServer } from "./dns/port.ts";
import type { IpsecKernel } from "./encryption/ipsec-port.ts";
import type { WireguardTunnel } from "./encryption/port.ts";
import type { Secret } from "./encryption/secret.ts";
import type { Mesh } from "./gossip/port.ts";
import type { DataPathProof, Guards, Kernel } from "./kernel/port.ts";
import type { Loss } from "./store/loss.ts";
import type { AgentStore } from "./store/port.ts";

/** What touches the machine, chosen in main.ts. */
export interface AgentAdapters {
  readonly mesh: Mesh;
  /** To the controller; in the mesh's worker, so that only one thread has libp2p. */
  readonly control: ControlChannel;
  readonly kernel: Kernel;
  readonly guards: Guards;
  readonly proof: DataPathProof;
  readonly encryption: EncryptionAdapters;
  readonly names: NameServer;
  readonly store: AgentStore;
  /** What its opening could not save. */
  readonly losses?: readonly Loss[];
  /** random(4): another one each time the machine starts. */
  readonly bootId: string;
  /** Subnets on this host's interfaces, and the interface. */
  readonly hostSubnets: () => { link: string; subnet: Cidr }[];
  /** Undefined: a host without an engine. */
  readonly engine: DockerEngine | undefined;
}

export interface EncryptionAdapters {
  readonly wireguard: WireguardTunnel;
  /** This host's; made when there is none. @throws INVALID */
  readonly wireguardKey: () => Secret;
  /** New ones, of WireGuard's transport namespace. */
  readonly transportGuards: () => Guards;
  /** @throws UNSUPPORTED or NETLINK: a kernel without it. */
  readonly ipsec: (local: Ip, udpPort: number) => IpsecKernel;
  /** VXLAN devices of this port are set down. @throws NETLINK */
  readonly classDown: (udpPort: number) => Promise<void>;
}
