import type { HostDocument } from "../../../shared/documents.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { mayHost } from "../../../shared/allowed.ts";
import type { NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Tables } from "./tables.ts";

/** What hosts say of themselves on the cluster topic, asked by network. */
type Hosts = ReadonlyMap<NodeId, Pick<HostDocument, "node" | "hosting" | "needs">>;

/**
 * The host says that it is on the network: it has an endpoint there, or had one moments ago. Undefined: it was not
 * heard. Any host can say so of any network; who may is asked with `takesPart`.
 */
export function saysOn(
  hosts: ReadonlyMap<NodeId, Pick<HostDocument, "hosting">>,
  node: NodeId,
  network: NetworkId,
): boolean | undefined {
  return hosts.get(node)?.hosting.includes(network);
}

/** The host says that it is on the network, and the signed state lets it. */
export function takesPart(
  { hosts, state }: Pick<Tables, "hosts" | "state">,
  node: NodeId,
  network: NetworkId,
): boolean {
  return saysOn(hosts, node, network) === true && mayHost(state, node, network);
}

/**
 * This host has something of the network, whatever the state says: containers, or its own word that one is coming or
 * has just left.
 */
export function isUsedHere(
  tables: Pick<Tables, "hosts" | "documents">,
  self: NodeId,
  network: NetworkId,
): boolean {
  const own = tables.documents(network).get(self);
  return saysOn(tables.hosts, self, network) === true || (own?.endpoints.length ?? 0) > 0;
}

/** All that say that they are on the network. */
export function hostsOn(hosts: Hosts, network: NetworkId): NodeId[] {
  return [...hosts.keys()].filter((node) => saysOn(hosts, node, network));
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
