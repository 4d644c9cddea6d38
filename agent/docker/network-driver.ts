import { OverlayError } from "../../shared/errors.ts";
import type { DockerNetworkId, EndpointId, NetworkId } from "../../shared/ids.ts";
import type { Log } from "../../shared/ports.ts";
import { oneLine } from "../../shared/text.ts";
import type { Bindings } from "../networks/bindings.ts";
import type { Leases } from "../networks/leases.ts";
import type { ControllerLink } from "../membership/controller-link.ts";
import type {
  CreatedEndpoint,
  CreateEndpoint,
  CreateNetwork,
  Join,
  Joined,
  NetworkDriver,
} from "./plugin/port.ts";
import type { EndpointDriver } from "./endpoint-driver.ts";
import { VNI_OPTION } from "./views.ts";
import { containersOf, forget } from "../networks/forget-endpoint.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import { KeyedMutex } from "../../shared/node/keyed-mutex.ts";
import type { OverlayIpam } from "../networks/ipam.ts";
import type { Replication } from "../replication/replication.ts";
import type { NameServerFeed } from "../names/name-server-feed.ts";

export interface NetworkDriverModules {
  readonly replication: Pick<Replication, "tables">;
  readonly bindings: Bindings;
  readonly leases: Pick<Leases, "release">;
  readonly localNetworks: LocalNetworks;
  readonly ipam: Pick<OverlayIpam, "pools">;
  readonly controller: Pick<ControllerLink, "request">;
  readonly nameServerFeed: Pick<NameServerFeed, "leave">;
  readonly endpoints: EndpointDriver;
  readonly log: Log;
}

/** Docker's network calls, carried out: those about networks here, those about endpoints in endpoint-driver.ts. */
export class OverlayNetworkDriver implements NetworkDriver {
  readonly #modules: NetworkDriverModules;
  readonly #creating = new KeyedMutex<DockerNetworkId>();
  /** Pools that a network under way will have. */
  readonly #taken = new Set<string>();
  /** CreateNetwork calls under way of networks that are none of the cluster's yet. */
  #making = 0;

  constructor(modules: NetworkDriverModules) {
    this.#modules = modules;
  }

  /** Docker is making a network here whose name is not known yet. */
  making(): boolean {
    return this.#making > 0;
  }

  /** Asked again while under way, or after it was done, it is the same network. */
  async createNetwork(request: CreateNetwork, signal: AbortSignal): Promise<void> {
    const isNew = request.options[VNI_OPTION] === undefined;
    if (isNew) this.#making++;
    try {
      await this.#creating.run(request.id, () => this.#createNetwork(request, signal));
    } finally {
      if (isNew) this.#making--;
    }
  }

  /**
   * This engine's view goes, whatever we answer. What becomes of the cluster's network is decided
   * after the call, when the engine can be asked (network-sync.ts).
   */
  async deleteNetwork(docker: DockerNetworkId): Promise<void> {
    const { bindings, localNetworks } = this.#modules;
    const network = bindings.network(docker);
    if (network === undefined) return;
    // First: ended between the two, what is to be decided is known, and the view that went is forgotten later.
    if (localNetworks.find(network) !== undefined) bindings.markRemoved(network);
    bindings.unbind(docker);
    if ([...bindings.networks().values()].includes(network)) return;
    // Docker removes no network that has endpoints: of these it could not tell us that they went.
    for (const endpoint of containersOf(localNetworks.endpoints(network)))
      await forget(this.#modules, network, endpoint);
  }

  createEndpoint(request: CreateEndpoint, signal: AbortSignal): Promise<CreatedEndpoint> {
    return this.#modules.endpoints.create(request, signal);
  }

  deleteEndpoint(docker: DockerNetworkId, endpoint: EndpointId): Promise<void> {
    return this.#modules.endpoints.delete(docker, endpoint);
  }

  join(request: Join, signal: AbortSignal): Promise<Joined> {
    return this.#modules.endpoints.join(request, signal);
  }

  leave(_docker: DockerNetworkId, endpoint: EndpointId): Promise<void> {
    return this.#modules.endpoints.leave(endpoint);
  }

  async #createNetwork(request: CreateNetwork, signal: AbortSignal): Promise<void> {
    const { bindings, controller, ipam } = this.#modules;
    const vni = request.options[VNI_OPTION];
    const bound = bindings.network(request.id);
    const known = vni === undefined ? bound : this.#byVni(vni);
    if (known !== undefined) this.#checkSame(request, known);
    if (bound !== undefined) return;
    const pools = request.pools.map((pool) => {
      const held =
        pool.ipam === "docker" ? undefined : ipam.pools.unbound(pool.subnet, this.#taken);
      if (held !== undefined) this.#taken.add(held.id);
      return { ...pool, held };
    });
    const bind = (network: NetworkId): void => {
      for (const { held } of pools) if (held !== undefined) ipam.pools.bind(held.id, network);
      bindings.bind(request.id, network);
    };
    try {
      if (known !== undefined) {
        bind(known);
        return;
      }
      const { network } = await controller.request(
        {
          v: 1,
          kind: "createNetwork",
          network: {
            subnets: pools.map(({ subnet, gateway, reserved, ipam, held }) => ({
              subnet,
              gateway,
              range: held?.range,
              reserved: [...reserved],
              dockerIpam: ipam === "docker",
            })),
            internal: request.internal,
            attachable: false,
            labels: {},
            driverOptions: { ...request.options },
            createdAs: request.id,
          },
        },
        "network",
      );
      try {
        signal.throwIfAborted();
        bind(network.id);
      } catch (error) {
        await this.#takeBack(network.id);
        throw error;
      }
    } finally {
      for (const { held } of pools) if (held !== undefined) this.#taken.delete(held.id);
    }
  }

  /** A network that the cluster has, made on this engine by us. @throws NOT_FOUND */
  #byVni(vni: string): NetworkId {
    const { state } = this.#modules.replication.tables;
    const record = state?.networks.find((known) => String(known.vni) === vni);
    if (record !== undefined) return record.id;
    throw new OverlayError({
      code: "NOT_FOUND",
      message: `the cluster has no network with VNI ${oneLine(vni, 64)} (any more)`,
      next: "see `overlay-ts network ls`",
    });
  }

  /** Docker was told that the network could not be made. */
  async #takeBack(network: NetworkId): Promise<void> {
    const { controller, log } = this.#modules;
    try {
      await controller.request({ v: 1, kind: "removeNetwork", network }, "done");
    } catch (error) {
      log.warn(
        { network, err: error },
        "could not remove a network whose creation Docker had given up",
      );
    }
  }

  /** @throws CONFLICT: what Docker calls by this id, or names, is another network. */
  #checkSame({ id, pools }: CreateNetwork, network: NetworkId): void {
    const { bindings, localNetworks } = this.#modules;
    const { subnets, name } = localNetworks.record(network);
    const bound = bindings.network(id);
    const other = pools.find(({ subnet }) => !subnets.some((held) => held.subnet === subnet));
    if ((bound === undefined || bound === network) && other === undefined) return;
    throw new OverlayError({
      code: "CONFLICT",
      message: `network ${name ?? network} has ${subnets.map(({ subnet }) => subnet).join(", ")}${other === undefined ? ", and this engine has it already" : `, not ${other.subnet}`}`,
      next: "remove the network on this engine: it comes back by itself, as it is",
    });
  }
}
