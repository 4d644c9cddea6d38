import type { DockerNetworkId, EndpointId } from "../../shared/ids.ts";
import type { Cidr } from "../../shared/ip.ts";

/** What we ask of the engine. Never inside a plugin call: dockerd waits for us and holds its locks. */
export interface DockerEngine {
  info(): Promise<EngineInfo>;
  networks(): Promise<EngineNetwork[]>;
  /** Endpoints of running containers on the network. */
  endpoints(network: DockerNetworkId): Promise<EndpointId[]>;
  /** All containers, also those that do not run. */
  containers(): Promise<EngineContainer[]>;
  /** Of all containers that name the network, running or not. */
  connections(network: Pick<EngineNetwork, "id" | "name">): Promise<Connection[]>;
  connect(network: string, connection: Connection): Promise<void>;
  disconnect(network: DockerNetworkId, connection: Connection): Promise<void>;
  createNetwork(request: NewEngineNetwork): Promise<DockerNetworkId>;
  removeNetwork(network: DockerNetworkId): Promise<void>;
  /** A hint each time networks, containers or connections changed; ends with the connection or `signal`. */
  events(signal: AbortSignal): AsyncIterable<void>;
}

export interface EngineInfo {
  readonly version: string;
  readonly operatingSystem: string;
  /** `name=rootless`, `name=userns`, … */
  readonly securityOptions: readonly string[];
  readonly dataRoot: string;
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

export interface EngineContainer {
  readonly id: string;
  readonly running: boolean;
  /** By name as the container refers to them; without an id when it was never started. */
  readonly networks: readonly { name: string; id: DockerNetworkId | undefined }[];
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
