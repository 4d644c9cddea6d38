import type { NetworkId, NodeId } from "../shared/ids.ts";
import type { Log } from "../shared/ports.ts";
import type { Bindings } from "./bindings.ts";
import type { ControllerLink } from "./controller-link.ts";
import { hostsNeeding, hostsPerhapsNeeding } from "./core/hosts.ts";
import type { Hosting } from "./hosting.ts";
import type { Replication } from "./replication.ts";

export interface EndingModules {
  readonly self: NodeId;
  readonly bindings: Bindings;
  readonly hosting: Pick<Hosting, "find">;
  readonly replication: Pick<Replication, "tables">;
  readonly controller: Pick<ControllerLink, "request">;
  /** Hosts that this one does not reach. */
  readonly lost: () => ReadonlySet<NodeId>;
  readonly log: Log;
}

/**
 * What becomes of networks whose view somebody removed on this engine (`network rm`, `prune`,
 * `compose down`). Decided after Docker's call, when what this engine's containers refer to is known;
 * the mark is on disk until then.
 */
export class Ending {
  readonly #modules: EndingModules;

  constructor(modules: EndingModules) {
    this.#modules = modules;
  }

  /** Their views are not to be shown. */
  undecided(): ReadonlySet<NetworkId> {
    return this.#modules.bindings.removed();
  }

  /**
   * The network ends when it was made here and no container of any host refers to it, or may by now
   * behind a cut; else its view is to be put back. @throws UNREACHABLE: undecided until the controller is there again.
   */
  async decide(network: NetworkId): Promise<void> {
    const { self, bindings, controller, hosting, replication, lost, log } = this.#modules;
    const { hosts, state } = replication.tables;
    const record = hosting.find(network);
    const needing = hostsNeeding(hosts, network).concat(
      hostsPerhapsNeeding(state, lost(), network),
    );
    if (record?.createdBy === self && needing.length === 0) {
      await controller.request({ v: 1, kind: "removeNetwork", network }, "done");
      log.info({ network, name: record.name }, "the network ended where it was made");
    } else if (record !== undefined) {
      const neededBy = (state?.nodes ?? [])
        .filter(({ id }) => needing.includes(id))
        .map(({ name }) => name);
      const why =
        record.createdBy === self ? "containers refer to it, or may" : "made on another host";
      log.info({ network, name: record.name, why, neededBy }, "a removed view is put back");
    }
    bindings.clearRemoved(network);
  }
}
