import type { NetworkRecord } from "../shared/cluster-state.ts";
import { claimedAddresses, type Endpoint, familiesOf } from "../shared/documents.ts";
import { asFailure, OverlayError } from "../shared/errors.ts";
import type { DockerNetworkId, EndpointId, NetworkId } from "../shared/ids.ts";
import { inRuleSpace, type Mac, ruleMac } from "../shared/mac.ts";
import type { Ip } from "../shared/ip.ts";
import type { Log } from "../shared/ports.ts";
import { oneLine } from "../shared/text.ts";
import type { Bindings } from "./bindings.ts";
import type { ControllerLink } from "./controller-link.ts";
import { clashOf, sameEndpoint } from "./core/clash.ts";
import { readNetwork } from "./core/desired.ts";
import type {
  CreatedEndpoint,
  CreateEndpoint,
  CreateNetwork,
  Join,
  Joined,
  NetworkDriver,
} from "./docker/port.ts";
import { VNI_OPTION } from "./docker/views.ts";
import type { Encrypting } from "./encrypting.ts";
import { containersOf, forget } from "./forgetting.ts";
import type { Guarding } from "./guarding.ts";
import type { Hosting } from "./hosting.ts";
import { InTurn } from "./in-turn.ts";
import type { Kernel } from "./kernel/port.ts";
import type { Naming } from "./naming.ts";
import type { OverlayIpam } from "./overlay-ipam.ts";
import type { Reconciler } from "./reconciler.ts";
import type { Replication } from "./replication.ts";
import type { Resolving } from "./resolving.ts";

/** A container waits this long for what peers know, then starts with what is known here. */
const JOIN_SYNC_MS = 500;

export interface DriverModules {
  readonly replication: Pick<Replication, "tables" | "completed">;
  readonly reconciler: Pick<Reconciler, "settle">;
  readonly guarding: Pick<Guarding, "settled">;
  readonly encrypting: Pick<Encrypting, "require" | "settled">;
  readonly bindings: Bindings;
  readonly hosting: Hosting;
  readonly ipam: Pick<OverlayIpam, "claim">;
  readonly controller: Pick<ControllerLink, "request">;
  readonly kernel: Pick<Kernel, "containerLink">;
  readonly resolving: Pick<Resolving, "join" | "leave">;
  /** Undefined: a host without an engine. */
  readonly naming: Pick<Naming, "left" | "joined"> | undefined;
  readonly log: Log;
}

/** Docker's network calls, carried out: the own document says what runs here, the rest follows. */
export class OverlayDriver implements NetworkDriver {
  readonly #modules: DriverModules;
  readonly #creating = new InTurn<DockerNetworkId>();
  /** Pools that a network under way will have. */
  readonly #taken = new Set<string>();

  constructor(modules: DriverModules) {
    this.#modules = modules;
  }

  /** Asked again while under way, or after it was done, it is the same network. */
  createNetwork(request: CreateNetwork, signal: AbortSignal): Promise<void> {
    return this.#creating.run(request.id, () => this.#createNetwork(request, signal));
  }

  /**
   * This engine's view goes, whatever we answer. What becomes of the cluster's network is decided
   * after the call, when the engine can be asked (docker-side.ts).
   */
  async deleteNetwork(docker: DockerNetworkId): Promise<void> {
    const { bindings, hosting } = this.#modules;
    const network = bindings.network(docker);
    if (network === undefined) return;
    // First: ended between the two, what is to be decided is known, and the view that went is forgotten later.
    if (hosting.find(network) !== undefined) bindings.markRemoved(network);
    bindings.unbind(docker);
    if ([...bindings.networks().values()].includes(network)) return;
    // Docker removes no network that has endpoints: of these it could not tell us that they went.
    for (const endpoint of containersOf(hosting.endpoints(network)))
      await forget(this.#modules, network, endpoint);
  }

  async createEndpoint(request: CreateEndpoint, signal: AbortSignal): Promise<CreatedEndpoint> {
    const { encrypting, hosting, ipam } = this.#modules;
    const network = this.#network(request.network);
    const record = hosting.record(network);
    const ips = claimedAddresses(request);
    const [first] = ips;
    if (first === undefined)
      throw new OverlayError({
        code: "INVALID",
        message: "an endpoint needs an address, and Docker gave none",
        next: "give the network a --subnet",
      });
    hosting.requireFit(record);
    const mac = endpointMac(first, request.mac);
    const endpoint: Endpoint = { id: request.endpoint, ...familiesOf(ips), mac };
    if (this.#has(network, endpoint)) return { mac };
    this.#checkFree(record, endpoint);
    for (const ip of ips) await ipam.claim(record, ip, signal);
    signal.throwIfAborted();
    await hosting.enter(network);
    try {
      await encrypting.require(record);
      signal.throwIfAborted();
      // Meanwhile the network may have gone, or another call may have brought the same.
      this.#network(request.network);
      this.#checkFree(hosting.record(network), endpoint);
      if (!this.#has(network, endpoint)) hosting.put(network, endpoint);
    } catch (error) {
      hosting.notUsed(network);
      throw error;
    }
    return { mac };
  }

  async deleteEndpoint(docker: DockerNetworkId, endpoint: EndpointId): Promise<void> {
    const { bindings, hosting, resolving } = this.#modules;
    const network = bindings.network(docker);
    if (network !== undefined) hosting.remove(network, endpoint);
    await resolving.leave(endpoint);
  }

  async join({ network: docker, endpoint, sandbox }: Join, signal: AbortSignal): Promise<Joined> {
    const { replication, reconciler, guarding, encrypting, kernel, hosting, naming, resolving } =
      this.#modules;
    const network = this.#network(docker);
    if (!hosting.endpoints(network).some(({ id }) => id === endpoint))
      throw new OverlayError({
        code: "NOT_FOUND",
        message: `overlay-ts knows no endpoint ${endpoint} on this network`,
        next: "start the container again",
      });
    await replication.completed(network, JOIN_SYNC_MS);
    await encrypting.settled(hosting.record(network));
    await reconciler.settle(network);
    await guarding.settled();
    signal.throwIfAborted();
    await resolving.join({ endpoint, network, path: sandbox });
    const { internal } = hosting.record(network);
    naming?.joined(endpoint);
    return { link: kernel.containerLink(endpoint), prefix: "eth", internal };
  }

  /** Others are told before its own questions end. */
  async leave(_docker: DockerNetworkId, endpoint: EndpointId): Promise<void> {
    const { naming, resolving } = this.#modules;
    naming?.left(endpoint);
    await resolving.leave(endpoint);
  }

  async #createNetwork(request: CreateNetwork, signal: AbortSignal): Promise<void> {
    const { bindings, controller } = this.#modules;
    const vni = request.options[VNI_OPTION];
    const bound = bindings.network(request.id);
    const known = vni === undefined ? bound : this.#byVni(vni);
    if (known !== undefined) this.#checkSame(request, known);
    if (bound !== undefined) return;
    const pools = request.pools.map((pool) => {
      const held =
        pool.ipam === "docker" ? undefined : bindings.unboundPool(pool.subnet, this.#taken);
      if (held !== undefined) this.#taken.add(held.id);
      return { ...pool, held };
    });
    const bind = (network: NetworkId): void => {
      for (const { held } of pools) if (held !== undefined) bindings.bindPool(held.id, network);
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
      log.warn({ network, ...asFailure(error) }, "a network that came too late stays");
    }
  }

  /** @throws CONFLICT: what Docker calls by this id, or names, is another network. */
  #checkSame({ id, pools }: CreateNetwork, network: NetworkId): void {
    const { bindings, hosting } = this.#modules;
    const { subnets, name } = hosting.record(network);
    const bound = bindings.network(id);
    const other = pools.find(({ subnet }) => !subnets.some((held) => held.subnet === subnet));
    if ((bound === undefined || bound === network) && other === undefined) return;
    throw new OverlayError({
      code: "CONFLICT",
      message: `network ${name ?? network} has ${subnets.map(({ subnet }) => subnet).join(", ")}${other === undefined ? ", and this engine has it already" : `, not ${other.subnet}`}`,
      next: "remove the network on this engine: it comes back by itself, as it is",
    });
  }

  #has(network: NetworkId, endpoint: Endpoint): boolean {
    return this.#modules.hosting.endpoints(network).some((held) => sameEndpoint(held, endpoint));
  }

  /** @throws CONFLICT */
  #checkFree(record: NetworkRecord, endpoint: Endpoint): void {
    const { hosting, replication } = this.#modules;
    const own = hosting.endpoints(record.id);
    const clash = clashOf(endpoint, own, readNetwork(replication.tables, record));
    if (clash !== undefined) throw clash;
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
