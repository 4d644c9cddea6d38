import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import type { EndpointId, NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { membersOf } from "./members.ts";
import type { Tables } from "../tables/tables.ts";

/** One name and one of its holders, for `overlay-ts names`. */
export interface NameRow {
  /** Canonical. */
  readonly name: string;
  readonly ips: readonly Ip[];
  /** By its name in the cluster. */
  readonly host: string;
  readonly node: NodeId;
  /** The holder's own name. */
  readonly container: string;
  readonly endpoint: EndpointId;
  /** As `Member.state`. */
  readonly state: string;
  /** Docker's short id of the container, which it gives every container as a name. */
  readonly shortId: boolean;
}

/** By name, then by host. `lost`: hosts that this one does not reach. */
export function nameRows(
  tables: Tables,
  record: NetworkRecord,
  lost: ReadonlySet<NodeId>,
): NameRow[] {
  const hosts = new Map((tables.state?.nodes ?? []).map(({ id, name }) => [id, name]));
  return membersOf(tables, record, lost)
    .flatMap(({ node, endpoint, names, ips, state }) =>
      names.map((name, i) => ({
        name,
        ips,
        host: hosts.get(node) ?? node,
        node,
        container: names[0] ?? name,
        endpoint: endpoint.id,
        state,
        shortId: isShortId(name, i),
      })),
    )
    .toSorted(
      (a, b) => order(a.name, b.name) || order(a.host, b.host) || order(a.ips[0], b.ips[0]),
    );
}

/** Every container has its own as a name: of no use to people. `index`: its place among the names. */
export function isShortId(name: string, index: number): boolean {
  return index > 0 && /^[0-9a-f]{12}$/.test(name);
}

function order(a = "", b = ""): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
