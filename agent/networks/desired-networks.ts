import { isDeepStrictEqual } from "node:util";
import type { SecurityClass } from "../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import type { Adoption } from "./adoption.ts";
import { type Wanted, wantedNetwork } from "./core/wanted.ts";
import type { Encrypting } from "./encrypting.ts";
import type { Hosting } from "./hosting.ts";
import type { Replication } from "./replication.ts";

export interface WantingModules {
  readonly self: NodeId;
  readonly replication: Pick<Replication, "tables" | "heard">;
  readonly encrypting: Pick<Encrypting, "paths">;
  readonly hosting: Pick<Hosting, "hosted">;
  readonly adoption: Pick<Adoption, "waiting">;
}

/** What the kernel should hold, asked of all parts that have a say in it. */
export class Wanting {
  readonly #modules: WantingModules;
  /** At the last change of state or hosts. */
  #last: ReadonlyMap<NetworkId, Wanted> = new Map();

  constructor(modules: WantingModules) {
    this.#modules = modules;
  }

  /** Of one network, and whether what it should not hold of it may go. */
  want(network: NetworkId): Wanted {
    const { self, replication, encrypting, adoption } = this.#modules;
    // Containers may run there that our documents have lost: nothing is taken away before it was looked.
    if (adoption.waiting().includes(network)) return { desired: undefined, inSync: false };
    const pathsOf = (encryption: SecurityClass) => encrypting.paths(encryption);
    return wantedNetwork(replication.tables, self, network, pathsOf, replication.heard(network));
  }

  /**
   * Networks here that look different than when it was last asked. A block more for one network is
   * nothing to the others: their kernel need not be read for it.
   */
  different(): NetworkId[] {
    const before = this.#last;
    this.#last = new Map(
      this.#modules.hosting.hosted().map((network) => [network, this.want(network)] as const),
    );
    return [...this.#last].flatMap(([network, wanted]) =>
      isDeepStrictEqual(wanted, before.get(network)) ? [] : [network],
    );
  }
}
