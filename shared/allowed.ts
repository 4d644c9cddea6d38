import type { ClusterState } from "./cluster-state.ts";
import type { NetworkId, NodeId } from "./ids.ts";

/** Whether the signed state lets a host have a network: its endpoints, its key and its documents. */
export function mayHost(
  state: ClusterState | undefined,
  node: NodeId,
  network: NetworkId,
): boolean {
  const admitted = state?.nodes.find(({ id }) => id === node);
  const record = state?.networks.find(({ id }) => id === network);
  if (admitted === undefined || record === undefined) return false;
  if (state?.revoked.includes(node) === true) return false;
  const { allowedNetworks } = admitted;
  return (
    (record.hosts === undefined || record.hosts.includes(node)) &&
    (allowedNetworks === undefined ||
      record.createdBy === node ||
      allowedNetworks.includes(record.name ?? ""))
  );
}
