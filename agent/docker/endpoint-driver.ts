import { claimedAddresses } from "../../shared/documents.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { DockerNetworkId, EndpointId, NetworkId } from "../../shared/ids.ts";
import type { Kernel } from "../kernel/port.ts";
import type { NameServerFeed } from "../names/name-server-feed.ts";
import type { AttachEndpoint, WantedEndpoint } from "../networks/attach-endpoint.ts";
import type { Bindings } from "../networks/bindings.ts";
import type { OverlayIpam } from "../networks/ipam.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import type { ContainerWatcher } from "./container-watcher.ts";
import type { CreatedEndpoint, CreateEndpoint, Join, Joined } from "./plugin/port.ts";
import type { WaysOut } from "./ways-out.ts";

export interface EndpointDriverModules {
  readonly bindings: Pick<Bindings, "network">;
  readonly localNetworks: Pick<LocalNetworks, "record" | "requireFit" | "endpoints" | "remove">;
  readonly attachEndpoint: AttachEndpoint;
  readonly ipam: Pick<OverlayIpam, "claim">;
  readonly kernel: Pick<Kernel, "containerLink">;
  readonly waysOut: Pick<WaysOut, "gateways">;
  readonly nameServerFeed: Pick<NameServerFeed, "join" | "leave">;
  /** Undefined: a host without an engine. */
  readonly containerWatcher: Pick<ContainerWatcher, "left" | "joined"> | undefined;
}

/** Docker's calls about endpoints, carried out: the own document says what runs here, the rest follows. */
export class EndpointDriver {
  readonly #modules: EndpointDriverModules;

  constructor(modules: EndpointDriverModules) {
    this.#modules = modules;
  }

  async create(request: CreateEndpoint, signal: AbortSignal): Promise<CreatedEndpoint> {
    const { attachEndpoint, localNetworks, ipam } = this.#modules;
    const network = this.#network(request.network);
    const record = localNetworks.record(network);
    const ips = claimedAddresses(request);
    if (ips.length === 0)
      throw new OverlayError({
        code: "INVALID",
        message: "an endpoint needs an address, and Docker gave none",
        next: "give the network a --subnet",
      });
    localNetworks.requireFit(record);
    const wanted: WantedEndpoint = { id: request.endpoint, ips, mac: request.mac };
    const proposed = attachEndpoint.propose(record, wanted);
    if (attachEndpoint.isThere(network, proposed)) return { mac: proposed.mac };
    for (const ip of ips) await ipam.claim(record, ip, signal);
    signal.throwIfAborted();
    return attachEndpoint.attach(() => this.#network(request.network), wanted, signal);
  }

  async delete(docker: DockerNetworkId, endpoint: EndpointId): Promise<void> {
    const { bindings, localNetworks, nameServerFeed } = this.#modules;
    const network = bindings.network(docker);
    if (network !== undefined) localNetworks.remove(network, endpoint);
    await nameServerFeed.leave(endpoint);
  }

  async join(
    { network: docker, endpoint, sandbox, publishes }: Join,
    signal: AbortSignal,
  ): Promise<Joined> {
    const { attachEndpoint, kernel, localNetworks, containerWatcher } = this.#modules;
    const { nameServerFeed, waysOut } = this.#modules;
    const network = this.#network(docker);
    if (!localNetworks.endpoints(network).some(({ id }) => id === endpoint))
      throw new OverlayError({
        code: "NOT_FOUND",
        message: `overlay-ts knows no endpoint ${endpoint} on this network`,
        next: "start the container again",
      });
    await attachEndpoint.settle(network);
    signal.throwIfAborted();
    await nameServerFeed.join({ endpoint, network, path: sandbox });
    const record = localNetworks.record(network);
    const gateways = waysOut.gateways(record, sandbox, publishes);
    containerWatcher?.joined(endpoint);
    const { internal } = record;
    return { link: kernel.containerLink(endpoint), prefix: "eth", internal, gateways };
  }

  /** Others are told before its own questions end. */
  async leave(endpoint: EndpointId): Promise<void> {
    const { containerWatcher, nameServerFeed } = this.#modules;
    containerWatcher?.left(endpoint);
    await nameServerFeed.leave(endpoint);
  }

  #network(docker: DockerNetworkId): NetworkId {
    const network = this.#modules.bindings.network(docker);
    if (network !== undefined) return network;
    throw new OverlayError({
      code: "NOT_FOUND",
      message: `overlay-ts on this host knows no network ${docker.slice(0, 12)} (any more)`,
      next: "try again: a network that was made on two hosts at once is made anew on one of them; if it stays, remove it on this engine, it comes back by itself",
    });
  }
}
