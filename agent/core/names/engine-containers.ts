import type { DockerNetworkId, EndpointId } from "../../shared/ids.ts";
import type { Cidr } from "../../shared/ip.ts";

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
  connect(network: string, connection: Connection): Promise<void>;
  disconnect(network: DockerNetworkId, connection: Connection): Promise<void>;
  createNetwork(request: NewEngineNetwork): Promise<DockerNetworkId>;
  removeNetwork(network: DockerNetworkId): Promise<void>;
  /** What happens, from now on; ends with the connection or `signal`. A hint when to look, no more. */
  events(signal: AbortSignal): AsyncIterable<EngineEvent>;
}

/** 64 hex digits. */
export type ContainerId = string;

export type EngineEvent =
  /** The stream is open: what happened before was not told. */
  | { readonly kind: "listening" }
  | {
      readonly kind: "container";
      /** `create`, `start`, `health_status: healthy`, … */
      readonly action: string;
      readonly container: ContainerId;
      readonly attributes: Readonly<Record<string, string>>;
      /** By the engine's clock, as `startedAtMs`. */
      readonly atMs: number;
    }
  | {
      readonly kind: "network";
      readonly action: string;
      readonly network: string;
      /** Of `connect` and `disconnect`. */
      readonly container: ContainerId | undefined;
    };

export interface Attachments {
  readonly name: string;
  /** `container` is undefined for an endpoint that no container has joined yet. */
  readonly endpoints: readonly { container: ContainerId | undefined; endpoint: EndpointId }[];
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

/** What a health check says; a container without one has none. */
export const HEALTHS = ["starting", "healthy", "unhealthy"] as const;
export type Health = (typeof HEALTHS)[number];

/** `down`: no process of it runs, also between two tries of a restart policy. */
export type RunState = "up" | "paused" | "down";

export interface EngineContainer {
  readonly id: ContainerId;
  readonly name: string;
  /** Its networks are in use, or will be again in a moment. */
  readonly running: boolean;
  readonly state: RunState;
  /** Undefined also while it is paused: the list does not say. */
  readonly health: Health | undefined;
  /** By name as the container refers to them; without an id when it was never started. */
  readonly networks: readonly EngineConnection[];
}

export interface EngineConnection {
  readonly name: string;
  readonly id: DockerNetworkId | undefined;
  /** While the container runs. */
  readonly endpoint: EndpointId | undefined;
}

/** What names and health need of one container. */
export interface ContainerDetails {
  readonly id: ContainerId;
  readonly name: string;
  readonly hostname: string;
  /** There is a health check, of the image or the container. */
  readonly checked: boolean;
  /** What `docker stop` sends, as a number. */
  readonly stopSignal: number;
  /** How long `docker stop` waits, unless it is told otherwise. */
  readonly stopTimeoutMs: number;
  readonly state: RunState;
  readonly health: Health | undefined;
  /** By the engine's clock, of the last start; before the first one, before everything. */
  readonly startedAtMs: number;
  /** Path of its network namespace (SandboxKey), while it runs. */
  readonly sandbox: string | undefined;
  readonly connections: readonly ContainerConnection[];
}

export interface ContainerConnection extends EngineConnection {
  /** Compose's service names among them; engines before 25 add short id and host name. */
  readonly aliases: readonly string[];
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
