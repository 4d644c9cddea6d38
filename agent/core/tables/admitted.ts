import type { ClusterState, NodeRecord } from "../../../shared/cluster-state.ts";
import type { NodeId } from "../../../shared/ids.ts";

/** States are never changed, only replaced. */
const admittedOf = new WeakMap<ClusterState, readonly NodeRecord[]>();
const idsOf = new WeakMap<ClusterState, ReadonlySet<NodeId>>();
const directOf = new WeakMap<ClusterState, readonly NodeRecord[]>();

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
  held: WeakMap<ClusterState, T>,
  state: ClusterState | undefined,
  read: (state: ClusterState) => T,
): T | undefined {
  if (state === undefined) return undefined;
  let of = held.get(state);
  if (of === undefined) held.set(state, (of = read(state)));
  return of;
}

/** Others send to its advertised address, which none of its interfaces has. */
export function isBehindNat({ behindNat }: Pick<NodeRecord, "behindNat">): boolean {
  return behindNat !== undefined;
}
