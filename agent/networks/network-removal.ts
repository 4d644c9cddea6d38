import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { Clock, Log } from "../../shared/ports.ts";
import type { Bindings } from "./bindings.ts";
import type { ControllerLink } from "../membership/controller-link.ts";
import { hostsNeeding, hostsPerhapsNeeding } from "../core/tables/hosts.ts";
import type { LocalNetworks } from "./local-networks.ts";
import type { Replication } from "../replication/replication.ts";

/** So long the word of another host may be on its way that its last container went. */
const WORD_MS = 2000;

export interface NetworkRemovalModules {
  readonly self: NodeId;
  readonly bindings: Bindings;
  readonly localNetworks: Pick<LocalNetworks, "find">;
  readonly replication: Pick<Replication, "tables">;
  readonly controller: Pick<ControllerLink, "request">;
  /** Hosts that this one does not reach. */
  readonly lost: () => ReadonlySet<NodeId>;
  readonly clock: Pick<Clock, "nowMs">;
  readonly log: Log;
}

/**
 * Decides whether networks end that were removed on this engine (`network rm`, `prune`,
 * `compose down`). Decided after Docker's call, when what this engine's containers refer to is known;
 * the mark is on disk until then.
 */
export class NetworkRemoval {
  readonly #modules: NetworkRemovalModules;
  /** Since when a network would end, but for what other hosts said last. */
  readonly #sinceMs = new Map<NetworkId, number>();

  constructor(modules: NetworkRemovalModules) {
    this.#modules = modules;
  }

  /** Their views are not to be shown. */
  undecided(): ReadonlySet<NetworkId> {
    return this.#modules.bindings.removed();
  }

  /**
   * The network ends when it was made here and no container of any host refers to it, or may by now behind a
   * cut; else, when the others' word has had its time, its view is to be put back. What stays undecided is to be
   * asked again soon. @throws UNREACHABLE: undecided until the controller is there again.
   */
  async decide(network: NetworkId): Promise<void> {
    const { self, bindings, controller, localNetworks, replication, lost, log } = this.#modules;
    const { hosts, state } = replication.tables;
    const record = localNetworks.find(network);
    const silent = hostsPerhapsNeeding(state, lost(), network);
    const said = hostsNeeding(hosts, network);
    const mayEnd = record?.createdBy === self && silent.length === 0 && !said.includes(self);
    if (mayEnd && said.length > 0 && this.#wordMayCome(network)) return;
    if (mayEnd && said.length === 0) {
      await controller.request({ v: 1, kind: "removeNetwork", network }, "done");
      log.info({ network, name: record.name }, "the network ended where it was made");
    } else if (record !== undefined) {
      const needing = [...said, ...silent];
      const neededBy = (state?.nodes ?? [])
        .filter(({ id }) => needing.includes(id))
        .map(({ name }) => name);
      const why =
        record.createdBy === self ? "containers refer to it, or may" : "made on another host";
      log.info({ network, name: record.name, why, neededBy }, "a removed view is put back");
    }
    this.#sinceMs.delete(network);
    bindings.clearRemoved(network);
  }

  #wordMayCome(network: NetworkId): boolean {
    const now = this.#modules.clock.nowMs();
    const sinceMs = this.#sinceMs.get(network) ?? now;
    this.#sinceMs.set(network, sinceMs);
    return now - sinceMs < WORD_MS;
  }
}
