import { isDeepStrictEqual } from "node:util";
import type { SecurityClass } from "../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { EndpointRecovery } from "./endpoint-recovery.ts";
import type { Wanted } from "../core/data-plane/kernel-state.ts";
import { wantedNetwork } from "../core/data-plane/prune-gate.ts";
import type { Encryption } from "../encryption/encryption.ts";
import type { LocalNetworks } from "./local-networks.ts";
import type { Replication } from "../replication/replication.ts";

export interface DesiredNetworksModules {
  readonly self: NodeId;
  readonly replication: Pick<Replication, "tables" | "heard">;
  readonly encryption: Pick<Encryption, "paths">;
  readonly localNetworks: Pick<LocalNetworks, "hosted">;
  readonly endpointRecovery: Pick<EndpointRecovery, "isWaiting">;
}

/** The desired kernel state of each network, from the tables, encryption and recovery. */
export class DesiredNetworks {
  readonly #modules: DesiredNetworksModules;
  /** At the last change of state or hosts. */
  #last: ReadonlyMap<NetworkId, Wanted> = new Map();

  constructor(modules: DesiredNetworksModules) {
    this.#modules = modules;
  }

  /** Of one network, and whether what it should not hold of it may go. */
  want(network: NetworkId): Wanted {
    const { self, replication, encryption, endpointRecovery } = this.#modules;
    // Containers may run there that our documents have lost: nothing is taken away before it was looked.
    if (endpointRecovery.isWaiting(network)) return { kind: "keep" };
    const pathsOf = (kind: SecurityClass) => encryption.paths(kind);
    return wantedNetwork(replication.tables, self, network, pathsOf, replication.heard(network));
  }

  /**
   * Networks here that look different than when it was last asked. A block more for one network is
   * nothing to the others: their kernel need not be read for it.
   */
  different(): NetworkId[] {
    const before = this.#last;
    this.#last = new Map(
      this.#modules.localNetworks.hosted().map((network) => [network, this.want(network)] as const),
    );
    return [...this.#last].flatMap(([network, wanted]) =>
      isDeepStrictEqual(wanted, before.get(network)) ? [] : [network],
    );
  }
}
