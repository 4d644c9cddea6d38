import type { ClusterState, NetworkRecord, NodeRecord } from "./cluster-state.ts";
import type { NetworkId, NodeId } from "./ids.ts";

/** Lists of a state are never changed, only replaced, and most revisions have those of the one before: what is known of a list stays. */
const nodesOf = new WeakMap<object, ReadonlyMap<NodeId, NodeRecord>>();
const networksOf = new WeakMap<object, ReadonlyMap<NetworkId, NetworkRecord>>();
const revokedOf = new WeakMap<object, ReadonlySet<NodeId>>();

/** What the controller signed of the network, found without a look at the others. */
export function recordOf(
  state: Pick<ClusterState, "networks"> | undefined,
  network: NetworkId,
): NetworkRecord | undefined {
  return state && once(networksOf, state.networks, byId).get(network);
}

/** The same of a host, revoked or not. */
export function nodeOf(
  state: Pick<ClusterState, "nodes"> | undefined,
  node: NodeId,
): NodeRecord | undefined {
  return state && once(nodesOf, state.nodes, byId).get(node);
}

export function isRevoked({ revoked }: Pick<ClusterState, "revoked">, node: NodeId): boolean {
  return once(revokedOf, revoked, (ids) => new Set(ids)).has(node);
}

function byId<Id, T extends { readonly id: Id }>(records: readonly T[]): ReadonlyMap<Id, T> {
  return new Map(records.map((record) => [record.id, record]));
}

function once<L extends object, T>(held: WeakMap<object, T>, list: L, read: (list: L) => T): T {
  let of = held.get(list);
  if (of === undefined) held.set(list, (of = read(list)));
  return of;
}
