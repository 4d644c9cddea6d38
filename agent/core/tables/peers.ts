import type { ClusterState } from "../../../shared/cluster-state.ts";
import type { HostDocument } from "../../../shared/documents.ts";
import type { NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Hasher } from "../../../shared/ports.ts";
import { admittedHosts } from "./admitted.ts";
import { saysOn } from "./hosts.ts";

/** Up to this many hosts everybody dials everybody: one hop, and nothing to choose. */
const FULL_MESH_NODES = 16;
/** Of the cluster topic, in larger clusters: the ring keeps it connected, chords keep it shallow. */
const RING_PEERS = 2;
const CHORD_PEERS = 4;
/** Of each network hosted here: gossip among few hosts of many is one hop. */
const NETWORK_PEERS = 4;

/**
 * Which hosts this one keeps dialled. A function of the tables, so every agent chooses without
 * asking, and a choice changes only when the tables do.
 */
export function wantedPeers(
  self: NodeId,
  state: ClusterState,
  hosts: ReadonlyMap<NodeId, Pick<HostDocument, "hosting">>,
  hosted: readonly NetworkId[],
  hasher: Hasher,
): NodeId[] {
  const members = admittedHosts(state).map(({ id }) => id);
  const others = members.filter((id) => id !== self);
  if (members.length <= FULL_MESH_NODES) return others.toSorted();
  const ring = members.toSorted();
  const at = ring.indexOf(self);
  const wanted = new Set<NodeId>();
  for (let step = 1; step <= RING_PEERS; step++) {
    const next = ring[(at + step) % ring.length];
    if (next !== undefined) wanted.add(next);
  }
  for (const id of nearest(self, others, "cluster", CHORD_PEERS, hasher)) wanted.add(id);
  const keyed = new Set(
    state.networks.flatMap(({ id, encryption }) => (encryption === "ipsec" ? [id] : [])),
  );
  for (const network of hosted) {
    const there = others.filter((id) => saysOn(hosts, id, network));
    // They ask each other for keys.
    if (keyed.has(network)) for (const id of there) wanted.add(id);
    for (const id of nearest(self, there, network, NETWORK_PEERS, hasher)) wanted.add(id);
  }
  wanted.delete(self);
  return [...wanted].toSorted();
}

/** Rendezvous hashing: each pair has a rank of its own, so load spreads and one change moves little. */
function nearest(
  self: NodeId,
  candidates: readonly NodeId[],
  topic: string,
  count: number,
  hasher: Hasher,
): NodeId[] {
  const encoder = new TextEncoder();
  const rank = (id: NodeId): number => {
    const hash = hasher.sha256(encoder.encode(`${topic} ${self} ${id}`));
    return new DataView(hash.buffer, hash.byteOffset).getUint32(0);
  };
  return candidates
    .map((id) => ({ id, rank: rank(id) }))
    .toSorted((a, b) => a.rank - b.rank)
    .slice(0, count)
    .map(({ id }) => id);
}
