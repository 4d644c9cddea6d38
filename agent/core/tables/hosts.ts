import type { HostDocument } from "../../shared/documents.ts";
import type { ClusterState } from "../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";

/** What hosts say of themselves on the cluster topic, asked by network. */
type Hosts = ReadonlyMap<NodeId, Pick<HostDocument, "node" | "hosting" | "needs">>;

/** Hosts that have an endpoint on the network, or had one moments ago. */
export function hostsOn(hosts: Hosts, network: NetworkId): NodeId[] {
  return [...hosts.values()]
    .filter(({ hosting }) => hosting.includes(network))
    .map(({ node }) => node);
}

/** Hosts where a container refers to the network, running or stopped: it must not end. */
export function hostsNeeding(hosts: Hosts, network: NetworkId): NodeId[] {
  return [...hosts.values()]
    .filter(({ hosting, needs }) => (needs ?? hosting).includes(network))
    .map(({ node }) => node);
}

/**
 * Hosts where a container may refer to it by now without our having heard: they are not reached, and have
 * addresses of the network to give, for which they ask nobody.
 */
export function hostsPerhapsNeeding(
  state: Pick<ClusterState, "blocks"> | undefined,
  lost: ReadonlySet<NodeId>,
  network: NetworkId,
): NodeId[] {
  const blocks = (state?.blocks ?? []).filter((block) => block.network === network);
  return [...new Set(blocks.flatMap(({ node }) => (lost.has(node) ? node : [])))];
}

/** Other hosts that are on a network with this one. */
export function hostsWith(hosts: Hosts, self: NodeId): Set<NodeId> {
  const own = new Set(hosts.get(self)?.hosting);
  const shared = [...hosts.values()].filter(
    ({ node, hosting }) => node !== self && hosting.some((network) => own.has(network)),
  );
  return new Set(shared.map(({ node }) => node));
}
