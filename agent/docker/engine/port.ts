import type { DockerNetworkId } from "../../../shared/ids.ts";
import type { Cidr } from "../../../shared/ip.ts";
import type {
  Attachments,
  ContainerDetails,
  ContainerEvent,
  ContainerId,
  EngineContainer,
  EngineEvent,
} from "../../core/names/engine-containers.ts";
import type { DefaultPool } from "./default-pools.ts";

export type {
  Attachments,
  ContainerConnection,
  ContainerDetails,
  ContainerEvent,
  ContainerId,
  EngineConnection,
  EngineContainer,
  EngineEvent,
  Health,
  RunState,
} from "../../core/names/engine-containers.ts";
export { HEALTHS } from "../../core/names/engine-containers.ts";

/** What we ask of the engine. Never inside a plugin call: dockerd waits for us and holds its locks. */
export interface DockerEngine {
  info(): Promise<EngineInfo>;
  networks(): Promise<EngineNetwork[]>;
  /** Who is on the network, containers that are just starting included. @throws NOT_FOUND */
  attachments(network: DockerNetworkId): Promise<Attachments>;
  /** All containers, also those that do not run. Of one that is starting or ending it may be a step behind. */
  containers(): Promise<EngineContainer[]>;
  /**
   * One container; undefined: there is none (any more). Docker answers when it is done with starting
   * it, or with whatever else it does to it: so what is said is true after every event that came before.
   */
  inspect(container: ContainerId): Promise<ContainerDetails | undefined>;
  /** Of all containers that name the network, running or not. */
  connections(network: Pick<EngineNetwork, "id" | "name">): Promise<Connection[]>;
  /** Of one container; undefined: it does not name the network, or is no more. */
  connection(
    container: ContainerId,
    network: Pick<EngineNetwork, "id" | "name">,
  ): Promise<Omit<Connection, "started"> | undefined>;
  connect(network: string, connection: Omit<Connection, "started">): Promise<void>;
  /** By force: also where the container, or its interface, is gone. */
  disconnect(network: DockerNetworkId, connection: Pick<Connection, "container">): Promise<void>;
  createNetwork(request: NewEngineNetwork): Promise<DockerNetworkId>;
  removeNetwork(network: DockerNetworkId): Promise<void>;
  /** What happens, from now on; ends with the connection or `signal`. A hint when to look, no more. */
  events(signal: AbortSignal): AsyncIterable<EngineEvent>;
  /**
   * Signals and pauses that the engine has in memory, the oldest first: of its last 256 events of any kind
   * (moby daemon/events, eventsLimit), gone when it starts anew.
   */
  remembered(): Promise<readonly ContainerEvent[]>;
}

export interface EngineInfo {
  readonly version: string;
  readonly operatingSystem: string;
  /** `name=rootless`, `name=userns`, … */
  readonly securityOptions: readonly string[];
  readonly dataRoot: string;
  /** From where it takes the subnets of networks. */
  readonly defaultPools: readonly DefaultPool[];
}

export interface EngineNetwork {
  readonly id: DockerNetworkId;
  readonly name: string;
  readonly driver: string;
  readonly internal: boolean;
  readonly attachable: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly subnets: readonly string[];
  /** `--ip-range` of an IPAM that is not ours. */
  readonly dockerRanges: readonly Cidr[];
}

/** What the user asked of a container's connection; addresses that Docker chose are not in it. */
export interface Connection {
  readonly container: string;
  /** Before its first start a container has its network by name only. */
  readonly started: boolean;
  readonly aliases: readonly string[];
  readonly links: readonly string[];
  /** `--ip` and the like, as Docker keeps them. */
  readonly addresses: Readonly<Record<string, unknown>>;
}

export interface NewEngineNetwork {
  readonly name: string;
  readonly driver: string;
  readonly internal: boolean;
  readonly attachable: boolean;
  readonly ipv6: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly ipam: {
    readonly driver: string;
    readonly options: Readonly<Record<string, string>>;
    readonly config: readonly { subnet: string; gateway?: string }[];
  };
}
