import type { EndpointId, NetworkId } from "../../../shared/ids.ts";
import type { Holder, NamedNetwork, NamedVip } from "../../core/names/names.ts";
import type { TableChange } from "./port.ts";

/** A copy of the name table, for the next worker when one ends. */
export class TableCopy {
  readonly #networks = new Map<
    NetworkId,
    {
      info: NamedNetwork;
      readonly holders: Map<EndpointId, Holder>;
      vips: readonly NamedVip[];
    }
  >();

  change(changes: readonly TableChange[]): void {
    for (const change of changes)
      switch (change.kind) {
        case "network": {
          const { network } = change.info;
          const held = this.#networks.get(network);
          if (held !== undefined) held.info = change.info;
          else this.#networks.set(network, { info: change.info, holders: new Map(), vips: [] });
          break;
        }
        case "holders": {
          const holders = this.#networks.get(change.network)?.holders;
          for (const endpoint of change.remove) holders?.delete(endpoint);
          for (const holder of change.put) holders?.set(holder.endpoint, holder);
          break;
        }
        case "vips": {
          const held = this.#networks.get(change.network);
          if (held !== undefined) held.vips = change.vips;
          break;
        }
        case "forget":
          this.#networks.delete(change.network);
      }
  }

  /** As changes to an empty table. */
  whole(): TableChange[] {
    return [...this.#networks].flatMap(([network, { info, holders, vips }]): TableChange[] => [
      { kind: "network", info },
      { kind: "holders", network, put: [...holders.values()], remove: [] },
      { kind: "vips", network, vips },
    ]);
  }
}
