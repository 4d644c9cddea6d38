import type { NetworkId } from "../../../shared/ids.ts";
import type { NameTable } from "../../core/names/name-table.ts";
import type { TableChange } from "./port.ts";

/** @returns the networks that look different now. */
export function applyChanges(names: NameTable, changes: readonly TableChange[]): Set<NetworkId> {
  const touched = new Set<NetworkId>();
  for (const change of changes) {
    touched.add(change.kind === "network" ? change.info.network : change.network);
    switch (change.kind) {
      case "network":
        names.setNetwork(change.info);
        break;
      case "holders":
        names.change(change.network, change.put, change.remove);
        break;
      case "vips":
        names.setVips(change.network, change.vips);
        break;
      case "forget":
        names.forgetNetwork(change.network);
    }
  }
  return touched;
}
