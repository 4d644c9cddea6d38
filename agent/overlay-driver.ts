import { claimedAddresses, familiesOf } from "../shared/documents.ts";
import { OverlayError } from "../shared/errors.ts";
import { type DockerNetworkId, type EndpointId, NetworkId } from "../shared/ids.ts";
import { inRuleSpace, type Mac, ruleMac } from "../shared/mac.ts";
import type { Ip } from "../shared/ip.ts";
import type { Bindings } from "./bindings.ts";
import type { ControllerLink } from "./controller-link.ts";
import type {
  CreatedEndpoint,
  CreateEndpoint,
  CreateNetwork,
  Join,
  Joined,
  NetworkDriver,
} from "./docker/port.ts";
import { NETWORK_OPTION } from "./docker/views.ts";
import type { Guarding } from "./guarding.ts";
import type { Hosting } from "./hosting.ts";
import type { Kernel } from "./kernel/port.ts";
import type { OverlayIpam } from "./overlay-ipam.ts";
import type { Reconciler } from "./reconciler.ts";
import type { Replication } from "./replication.ts";

/** The engine told us of a network, and the controller knows its name: longer only while one is away. */
const NAMING_MS = 3000;
/** A container waits this long for what peers know, then starts with what is known here. */
const JOIN_SYNC_MS = 500;

export interface DriverModules {
  readonly replication: Pick<Replication, "synced" | "until">;
  readonly reconciler: Pick<Reconciler, "settle">;
  readonly guarding: Pick<Guarding, "settled">;
  readonly bindings: Bindings;
  readonly hosting: Hosting;
  readonly ipam: Pick<OverlayIpam, "claim">;
  readonly controller: Pick<ControllerLink, "request">;
  readonly kernel: Pick<Kernel, "containerLink">;
}

/** Docker's network calls, carried out: the own document says what runs here, the rest follows. */
export class OverlayDriver implements NetworkDriver {
  readonly #modules: DriverModules;
  /** Networks made here since the start that have no name yet, for all we know. */
  readonly #madeAtMs = new Map<DockerNetworkId, number>();

  constructor(modules: DriverModules) {
    this.#modules = modules;
  }

  async createNetwork(request: CreateNetwork): Promise<void> {
    const { bindings, hosting, controller } = this.#modules;
    const named = request.options[NETWORK_OPTION];
    if (named !== undefined) {
      bindings.bind(request.id, hosting.record(NetworkId.parse(named)).id);
      return;
    }
    const pools = request.pools.map((pool) => ({
      ...pool,
      held: pool.ipam === "docker" ? undefined : bindings.unboundPool(pool.subnet),
    }));
    const { network } = await controller.request(
      {
        v: 1,
        kind: "createNetwork",
        network: {
          subnets: pools.map(({ subnet, gateway, held, ipam }) => ({
            subnet,
            gateway,
            range: held?.range,
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
    for (const { held } of pools) if (held !== undefined) bindings.bindPool(held.id, network.id);
    bindings.bind(request.id, network.id);
    this.#madeAtMs.set(request.id, performance.now());
  }

  /**
   * This engine's view goes, whatever we answer. What becomes of the cluster's network is decided
   * after the call, when the engine can be asked (docker-side.ts).
   */
  deleteNetwork(docker: DockerNetworkId): Promise<void> {
    const { bindings, hosting } = this.#modules;
    const network = bindings.network(docker);
    if (network !== undefined) {
      bindings.unbind(docker);
      if (hosting.find(network) !== undefined) bindings.markRemoved(network);
    }
    return Promise.resolve();
  }

  async createEndpoint(request: CreateEndpoint): Promise<CreatedEndpoint> {
    const { hosting, ipam } = this.#modules;
    const network = this.#network(request.network);
    await this.#named(request.network, network);
    const record = hosting.record(this.#network(request.network));
    const ips = claimedAddresses(request);
    const [first] = ips;
    if (first === undefined)
      throw new OverlayError({ code: "INVALID", message: "an endpoint needs an address" });
    if (record.encryption !== "none")
      throw new OverlayError({
        code: "UNSUPPORTED",
        message: `network ${record.name ?? network} is encrypted (${record.encryption}), which this version cannot do`,
        next: "run the version of overlay-ts that made it on this host too",
      });
    hosting.requireFit(record);
    const mac = endpointMac(first, request.mac);
    for (const ip of ips) await ipam.claim(record, ip);
    await hosting.enter(network);
    hosting.put(network, { id: request.endpoint, ...familiesOf(ips), mac });
    return { mac };
  }

  deleteEndpoint(docker: DockerNetworkId, endpoint: EndpointId): Promise<void> {
    const { bindings, hosting } = this.#modules;
    const network = bindings.network(docker);
    if (network !== undefined) hosting.remove(network, endpoint);
    return Promise.resolve();
  }

  async join({ network: docker, endpoint }: Join): Promise<Joined> {
    const { replication, reconciler, guarding, kernel, hosting } = this.#modules;
    const network = this.#network(docker);
    if (!hosting.endpoints(network).some(({ id }) => id === endpoint))
      throw new OverlayError({
        code: "NOT_FOUND",
        message: `overlay-ts knows no endpoint ${endpoint} on this network`,
        next: "start the container again",
      });
    await replication.synced(network, JOIN_SYNC_MS);
    await reconciler.settle(network);
    await guarding.settled();
    const { internal } = hosting.record(network);
    return { link: kernel.containerLink(endpoint), prefix: "eth", internal };
  }

  leave(): Promise<void> {
    return Promise.resolve();
  }

  /**
   * A network made here moments ago may have been made on another host too, under the same name:
   * only one of them stays, and a container must not be on the other.
   */
  async #named(docker: DockerNetworkId, network: NetworkId): Promise<void> {
    const { replication, bindings, hosting } = this.#modules;
    const leftMs = NAMING_MS - (performance.now() - (this.#madeAtMs.get(docker) ?? -Infinity));
    if (leftMs <= 0) return;
    const decided = (): boolean => {
      const record = hosting.find(network);
      return (
        bindings.network(docker) !== network || record === undefined || record.name !== undefined
      );
    };
    await replication.until(decided, leftMs);
    this.#madeAtMs.delete(docker);
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

/** The MAC rule, or the user's own outside of its space. */
function endpointMac(ip: Ip, chosen: Mac | undefined): Mac {
  const ruled = ruleMac(ip);
  if (chosen === undefined || chosen === ruled) return ruled;
  if (!inRuleSpace(chosen)) return chosen;
  throw new OverlayError({
    code: "INVALID",
    message: `--mac-address ${chosen} lies in the space that overlay-ts derives from addresses`,
    next: "choose one that does not begin with 02:42 or 02:43",
  });
}
