import type { DockerNetworkId, EndpointId } from "../../../shared/ids.ts";

/** Containers as an engine shows them. */

export type ContainerEvent = Extract<EngineEvent, { kind: "container" }>;

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
  /** No way out through it. */
  readonly internal: boolean;
  /** `container` is undefined for an endpoint that no container has joined yet. */
  readonly endpoints: readonly { container: ContainerId | undefined; endpoint: EndpointId }[];
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
  /** The IPv4 address that the engine shows for it, when it was inspected. */
  readonly shown?: string | undefined;
}

/** Of a container's labels those that ask for a virtual address, as they are written. */
export interface VipLabels {
  /** `overlay-ts.vip` */
  readonly vip?: string | undefined;
  /** `overlay-ts.vip.sticky` */
  readonly sticky?: string | undefined;
  /** `com.docker.compose.service` */
  readonly service?: string | undefined;
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
  /** `--dns`: servers that Docker's resolver asks from within the container, and no others. */
  readonly resolvers: boolean;
  /** `-p`: ports of the container's, `80/tcp`. */
  readonly published: readonly string[];
  /** Those that the image or `--expose` names, and those published: what SRV records tell of. */
  readonly ports: readonly string[];
  readonly labels: VipLabels;
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
  /** `--link`: `<name>:<alias>`, or a name alone. */
  readonly links: readonly string[];
}
