import type { SecurityClass } from "../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { EndpointRecovery } from "./endpoint-recovery.ts";
import type { Wanted } from "../core/data-plane/kernel-state.ts";
import { wantedNetwork } from "../core/data-plane/prune-gate.ts";
import { readAnew } from "../core/data-plane/read-network.ts";
import { recordOf } from "../../shared/records.ts";
import type { Encryption } from "../encryption/encryption.ts";
import type { Replication } from "../replication/replication.ts";
import type { TransitSlots } from "./transit-slots.ts";

export interface DesiredNetworksModules {
  readonly self: NodeId;
  readonly replication: Pick<Replication, "tables" | "heard">;
  readonly encryption: Pick<Encryption, "paths">;
  readonly endpointRecovery: Pick<EndpointRecovery, "isWaiting">;
  readonly transitSlots: Pick<TransitSlots, "of">;
}

/** The desired kernel state of each network, from the tables, encryption and recovery. */
export class DesiredNetworks {
  readonly #modules: DesiredNetworksModules;

  constructor(modules: DesiredNetworksModules) {
    this.#modules = modules;
  }

  /** Of one network, and whether what it should not hold of it may go. */
  want(network: NetworkId): Wanted {
    const { self, replication, encryption, endpointRecovery, transitSlots } = this.#modules;
    // Containers may run there that our documents have lost: nothing is taken away before it was looked.
    if (endpointRecovery.isWaiting(network)) return { kind: "keep" };
    const pathsOf = (kind: SecurityClass) => encryption.paths(kind);
    const { tables } = replication;
    const wanted = wantedNetwork(tables, self, network, pathsOf, replication.heard(network));
    const record = recordOf(tables.state, network);
    if (wanted.kind !== "present" || record === undefined) return wanted;
    return { ...wanted, desired: { ...wanted.desired, transit: transitSlots.of(record) } };
  }

  /**
   * What is kept of the network's documents is what they say. If not, it is read anew.
   * @returns whether it was
   */
  right(network: NetworkId): boolean {
    const { tables } = this.#modules.replication;
    const record = recordOf(tables.state, network);
    return record === undefined || readAnew(tables, record);
  }
}
