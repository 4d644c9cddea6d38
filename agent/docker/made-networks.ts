import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { mayHost } from "../../shared/allowed.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { Cidr } from "../../shared/ip.ts";
import type { Log } from "../../shared/ports.ts";
import type { ControllerLink } from "../membership/controller-link.ts";
import type { Bindings } from "../networks/bindings.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import type { Replication } from "../replication/replication.ts";
import { chosenTwice, type DefaultPool } from "./engine/default-pools.ts";
import type { DockerEngine, EngineNetwork } from "./engine/port.ts";
import { giveWay } from "./give-way.ts";
import type { ContainerReconnector } from "./reconnect-containers.ts";
import { unheededSubnets, viewOf } from "./views.ts";

export interface MadeNetworksModules {
  readonly self: NodeId;
  readonly engine: DockerEngine;
  readonly replication: Pick<Replication, "tables">;
  readonly bindings: Bindings;
  readonly localNetworks: Pick<LocalNetworks, "record">;
  readonly controller: Pick<ControllerLink, "request">;
  readonly reconnector: Pick<ContainerReconnector, "replaced">;
  /** Another network is shown in the place of one. */
  readonly changed: () => void;
  readonly log: Log;
}

/** Networks that a user of this engine made: the cluster is told their names, or they give way to another. */
export class MadeNetworks {
  readonly #modules: MadeNetworksModules;

  constructor(modules: MadeNetworksModules) {
    this.#modules = modules;
  }

  /** The name that Docker gave a network made here; with it, it appears on the other engines. */
  async tell(
    network: NetworkId,
    view: EngineNetwork,
    pools: readonly DefaultPool[],
  ): Promise<void> {
    const { controller, localNetworks, replication, log } = this.#modules;
    const { name, labels, attachable } = view;
    const record = localNetworks.record(network);
    const networks = replication.tables.state?.networks ?? [];
    const twice = chosenTwice(record, networks, pools);
    try {
      if (twice === undefined) {
        const told = { name, labels: { ...labels }, attachable };
        const dockerRanges = [...view.dockerRanges];
        const request = { v: 1, kind: "nameNetwork", network, ...told, dockerRanges } as const;
        await controller.request(request, "network");
        return;
      }
      const { subnet, other } = twice;
      log.warn(
        { name, subnet, other: other.name },
        "another network has the subnet that Docker chose",
      );
      const wanted = withAnotherSubnet(record, subnet, view);
      const made = await controller.request(
        { v: 1, kind: "createNetwork", network: wanted },
        "network",
      );
      await this.#replace(network, view, made.network, unheededSubnets(record, view));
    } catch (error) {
      if (!(error instanceof OverlayError) || error.code !== "CONFLICT") throw error;
      // Made on two hosts at once: the first is the cluster's, and this engine shows that one.
      const first = replication.tables.state?.networks.find((candidate) => candidate.name === name);
      // On its way here.
      if (first === undefined) throw error;
      log.info({ name }, "made elsewhere at the same time: this one gives way");
      await this.#replace(network, view, first);
    }
  }

  /** What was made here as `network` ends, and this engine shows `first` in its place. */
  async #replace(
    network: NetworkId,
    view: EngineNetwork,
    first: NetworkRecord,
    unheeded: readonly string[] = [],
  ): Promise<void> {
    const { bindings, controller, engine, replication, reconnector, self, log, changed } =
      this.#modules;
    if (!mayHost(replication.tables.state, self, first.id)) await engine.removeNetwork(view.id);
    else
      try {
        await giveWay(view, viewOf(first, view.name, unheeded), { engine, log });
      } finally {
        reconnector.replaced(view.name);
        if (bindings.network(view.id) === undefined)
          await controller.request({ v: 1, kind: "removeNetwork", network }, "done");
      }
    changed();
  }
}

/** The same network, with all that the user said of it. */
function withAnotherSubnet(
  { subnets, internal, driverOptions }: NetworkRecord,
  chosen: Cidr,
  { name, labels, attachable }: EngineNetwork,
) {
  return {
    name,
    labels: { ...labels },
    attachable,
    internal,
    driverOptions: { ...driverOptions },
    subnets: subnets
      .filter(({ subnet }) => subnet !== chosen)
      .map(({ subnet, gateway, reserved }) => ({ subnet, gateway, reserved })),
  };
}
