import type { ClusterState, NodeRecord } from "../../../shared/cluster-state.ts";
import type { NodeId } from "../../../shared/ids.ts";

/** Lists of a state are never changed, only replaced: for a block that is given nobody is looked at. */
type OfNodes<T> = WeakMap<object, { readonly revoked: object; readonly is: T }>;
const admittedOf: OfNodes<readonly NodeRecord[]> = new WeakMap();
const idsOf: OfNodes<ReadonlySet<NodeId>> = new WeakMap();
const directOf: OfNodes<readonly NodeRecord[]> = new WeakMap();

/** Hosts of the cluster, as the controller signed it. */
export function admittedHosts(state: ClusterState | undefined): readonly NodeRecord[] {
  const admitted = kept(admittedOf, state, ({ nodes, revoked }) => {
    const out = new Set(revoked);
    return nodes.filter(({ id }) => !out.has(id));
  });
  return admitted ?? [];
}

export function isAdmitted(state: ClusterState | undefined, node: NodeId): boolean {
  const ids = kept(idsOf, state, (of) => new Set(admittedHosts(of).map(({ id }) => id)));
  return ids?.has(node) === true;
}

/** Where VXLAN in clear and ESP reach: not through NAT. */
export function directHosts(state: ClusterState | undefined): readonly NodeRecord[] {
  return (
    kept(directOf, state, (of) => admittedHosts(of).filter((host) => !isBehindNat(host))) ?? []
  );
}

function kept<T>(
  held: OfNodes<T>,
  state: ClusterState | undefined,
  read: (state: ClusterState) => T,
): T | undefined {
  if (state === undefined) return undefined;
  const { nodes, revoked } = state;
  const before = held.get(nodes);
  if (before?.revoked === revoked) return before.is;
  const is = read(state);
  held.set(nodes, { revoked, is });
  return is;
}

/** Others send to its advertised address, which none of its interfaces has. */
export function isBehindNat({ behindNat }: Pick<NodeRecord, "behindNat">): boolean {
  return behindNat !== undefined;
}
