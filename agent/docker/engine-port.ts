import type { DockerNetworkId, EndpointId } from "../../shared/ids.ts";

/** What we ask of the engine. Never inside a plugin call: dockerd waits for us and holds its locks. */
export interface DockerEngine {
  info(): Promise<EngineInfo>;
  networks(): Promise<EngineNetwork[]>;
  /** Endpoints of running containers on the network. */
  endpoints(network: DockerNetworkId): Promise<EndpointId[]>;
  /** All containers, also those that do not run. */
  containers(): Promise<EngineContainer[]>;
  /** A stopped container refers to this network from now on, with the settings it had. */
  refer(container: EngineContainer, network: EngineNetwork): Promise<void>;
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
