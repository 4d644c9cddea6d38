import type { ClusterState, NodeRecord } from "../../../shared/cluster-state.ts";

/** Hosts of the cluster, as the controller signed it. */
export function admittedHosts(state: ClusterState | undefined): NodeRecord[] {
  return state?.nodes.filter(({ id }) => !state.revoked.includes(id)) ?? [];
}

/** Where VXLAN in clear and ESP reach: not through NAT. */
export function directHosts(state: ClusterState | undefined): NodeRecord[] {
  return admittedHosts(state).filter((host) => !isBehindNat(host));
}

/** Others send to its advertised address, which none of its interfaces has. */
export function isBehindNat({ behindNat }: Pick<NodeRecord, "behindNat">): boolean {
  return behindNat !== undefined;
}
