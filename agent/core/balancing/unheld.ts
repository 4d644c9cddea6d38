import type { VipRecord } from "../../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../../shared/ids.ts";
import { namesOf } from "../names/names.ts";
import { isAdmitted } from "../tables/admitted.ts";
import { hostsOn } from "../tables/hosts.ts";
import type { Tables } from "../tables/tables.ts";

/**
 * Virtual addresses that labels or a network asked for, whose names nobody has, as far as this host is the one to say so: of
 * those on the network that are reached the first by its id, where it knows what all of them say; where nobody is on it, the
 * controller's host. A host that is away holds what it said.
 * @param lost hosts that this one does not reach
 */
export function unheldVips(
  tables: Pick<Tables, "state" | "hosts" | "documents">,
  self: NodeId,
  lost: ReadonlySet<NodeId>,
): VipRecord[] {
  const vips = (tables.state?.vips ?? []).filter(({ madeBy }) => madeBy !== "cli");
  return [...Map.groupBy(vips, ({ network }) => network)].flatMap(([network, own]) => {
    const held = decides(tables, network, self, lost) ? heldNames(tables, network) : undefined;
    return held === undefined ? [] : own.filter(({ name }) => !held.has(name));
  });
}

function decides(
  tables: Pick<Tables, "state" | "hosts" | "documents">,
  network: NetworkId,
  self: NodeId,
  lost: ReadonlySet<NodeId>,
): boolean {
  const { state, hosts } = tables;
  const members = (state?.nodes ?? []).map(({ id }) => id);
  if (members.some((id) => !hosts.has(id))) return false;
  const on = hostsOn(hosts, network).filter((id) => isAdmitted(state, id));
  if (on.length === 0) return state?.controller.node === self;
  const [first] = on.filter((id) => id === self || !lost.has(id)).toSorted();
  return first === self && on.every((id) => tables.documents(network).has(id));
}

function heldNames(tables: Pick<Tables, "state" | "documents">, network: NetworkId): Set<string> {
  const documents = [...tables.documents(network).values()];
  const said = documents.filter(({ node }) => isAdmitted(tables.state, node));
  return new Set(said.flatMap(({ endpoints }) => endpoints.flatMap((one) => namesOf(one))));
}
