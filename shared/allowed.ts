import type { ClusterState } from "./cluster-state.ts";
import type { NetworkId, NodeId } from "./ids.ts";
import { isRevoked, nodeOf, recordOf } from "./records.ts";

/** Whether the signed state lets a host have a network: its endpoints, its key and its documents. */
export function mayHost(
  state: ClusterState | undefined,
  node: NodeId,
  network: NetworkId,
): boolean {
  const [admitted, record] = [nodeOf(state, node), recordOf(state, network)];
  if (state === undefined || admitted === undefined || record === undefined) return false;
  if (isRevoked(state, node)) return false;
  const { allowedNetworks } = admitted;
  return (
    (record.hosts === undefined || record.hosts.includes(node)) &&
    (allowedNetworks === undefined ||
      record.createdBy === node ||
      allowedNetworks.includes(record.name ?? ""))
  );
}
