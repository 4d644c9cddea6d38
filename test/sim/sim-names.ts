import { NameTable } from "../../agent/core/names/name-table.ts";
import { namedHosts, type NamedNetwork } from "../../agent/core/names/names.ts";
import { ToldHolders } from "../../agent/core/names/told-holders.ts";
import type { Tables } from "../../agent/core/tables/tables.ts";
import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { canonicalName } from "../../shared/dns-name.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";

/** What this host's containers hear: the real table, told as agent/names/name-server-feed.ts tells it, but for holders that went. */
export class SimNames {
  readonly table = new NameTable();
  readonly #told = new Map<NetworkId, ToldHolders>();

  update(tables: Tables, record: NetworkRecord, lost: ReadonlySet<NodeId>): void {
    const name = record.name === undefined ? undefined : canonicalName(record.name);
    const info: NamedNetwork = { network: record.id, name, complete: true };
    this.table.setNetwork(info);
    const told = this.#told.get(record.id) ?? new ToldHolders();
    this.#told.set(record.id, told);
    const { put, remove } = told.change(namedHosts(tables, record, lost));
    this.table.change(record.id, put, remove);
  }

  forget(network: NetworkId): void {
    if (this.#told.delete(network)) this.table.forgetNetwork(network);
  }
}
