import type { ControlChannel } from "../controller/wire/channel.ts";
import type { Cidr, Ip } from "../shared/ip.ts";
import type { Balancing } from "./balancing/port.ts";
import type { CutOffs } from "./docker/cut-off.ts";
import type { DockerEngine } from "./docker/engine/port.ts";
import type { PluginSocket } from "./docker/plugin/plugin-socket.ts";
import type { EncryptionAdapters } from "./encryption/adapters.ts";
import type { NameServer } from "./names/server/port.ts";
import type { Mesh } from "./replication/gossip/port.ts";
import type { TransitPools } from "./core/data-plane/transit.ts";
import type { DataPathProof, Egress, Guards, Kernel, WayOut } from "./kernel/port.ts";
import type { Loss } from "./store/loss.ts";
import type { AgentStore } from "./store/port.ts";
import type { HostLinks } from "./membership/underlay.ts";

/** What touches the machine, chosen in linux-adapters.ts. */
export interface AgentAdapters {
  readonly mesh: Mesh;
  /** To the controller; in the mesh's worker, so that only one thread has libp2p. */
  readonly control: ControlChannel;
  readonly kernel: Kernel;
  readonly guards: Guards;
  readonly wayOut: WayOut;
  readonly egress: Egress;
  /** Of networks' ways out; undefined: they have none. */
  readonly transitPools: TransitPools | undefined;
  readonly proof: DataPathProof;
  readonly encryption: EncryptionAdapters;
  readonly names: NameServer;
  readonly balancing: Balancing;
  readonly store: AgentStore;
  /** What its opening could not save. */
  readonly losses?: readonly Loss[];
  /** random(4): another one each time the machine starts. */
  readonly bootId: string;
  /** The controller may take so long to answer, when that is longer than it may anyway. */
  readonly patienceMs?: number | undefined;
  /** Subnets on this host's interfaces, and the interface. */
  readonly hostSubnets: () => { link: string; subnet: Cidr }[];
  readonly links: HostLinks;
  /** Where this agent listens and sends; undefined: it need not be looked after. */
  readonly ownAddress?: { readonly local: Ip; readonly has: (ip: Ip) => boolean };
  readonly cutOffs: CutOffs;
  /** Undefined: a host without an engine. */
  readonly engine: DockerEngine | undefined;
  /** Undefined: nobody looks whether it is there. */
  readonly pluginSocket?: Pick<PluginSocket, "failure"> | undefined;
}
