import type { DockerNetworkId, EndpointId } from "../../../shared/ids.ts";
import type { Cidr, Ip } from "../../../shared/ip.ts";
import type { Mac } from "../../../shared/mac.ts";

/**
 * What Docker's plugin calls ask of the agent (moby libnetwork/docs/remote.md, ipam.md), parsed.
 * Every method may throw an OverlayError; its text is all that Docker shows of it. None may call
 * the engine's API: dockerd waits for us while it holds its locks.
 *
 * What gives Docker something has a `signal`, aborted when Docker was told that the call failed: from
 * then on the method must have no effect, and takes back what it had asked of others. What Docker
 * gives up has none: it forgets whatever we answer, so such a call is carried out however late.
 */
export interface NetworkDriver {
  createNetwork(request: CreateNetwork, signal: AbortSignal): Promise<void>;
  /** Docker forgets the network whatever we answer. */
  deleteNetwork(network: DockerNetworkId): Promise<void>;
  createEndpoint(request: CreateEndpoint, signal: AbortSignal): Promise<CreatedEndpoint>;
  deleteEndpoint(network: DockerNetworkId, endpoint: EndpointId): Promise<void>;
  join(request: Join, signal: AbortSignal): Promise<Joined>;
  leave(network: DockerNetworkId, endpoint: EndpointId): Promise<void>;
}

export interface CreateNetwork {
  readonly id: DockerNetworkId;
  /** `-o` options, as given. */
  readonly options: Readonly<Record<string, string>>;
  readonly internal: boolean;
  /** IPv4 first. */
  readonly pools: readonly NetworkPool[];
}

export interface NetworkPool {
  /** Ours, or Docker's own IPAM hands out the addresses. */
  readonly ipam: "overlay-ts" | "docker";
  readonly subnet: Cidr;
  readonly gateway: Ip | undefined;
  /** `--aux-address`: no container gets these. */
  readonly reserved: readonly Ip[];
}

export interface CreateEndpoint {
  readonly network: DockerNetworkId;
  readonly endpoint: EndpointId;
  readonly ipv4: Ip | undefined;
  readonly ipv6: Ip | undefined;
  /** The user's `--mac-address`, or Docker's own choice. */
  readonly mac: Mac | undefined;
  /** Docker filled it in already: the answer must not. */
  readonly macGiven: boolean;
}

export interface CreatedEndpoint {
  readonly mac: Mac;
}

export interface Join {
  readonly network: DockerNetworkId;
  readonly endpoint: EndpointId;
  /** Path of the container's network namespace; on engine 20.10 not there yet. */
  readonly sandbox: string;
  /** Ports of the container are published, on whichever of its networks. */
  readonly publishes: boolean;
}

export interface Joined {
  /** A link in the host's namespace that Docker moves into the container. */
  readonly link: string;
  /** Docker adds a number: `eth` becomes eth0. */
  readonly prefix: string;
  /** No way out of the network (`--internal`). */
  readonly internal: boolean;
  /** By which the container leaves; none: Docker gives it docker_gwbridge. */
  readonly gateways: readonly Ip[];
}
