import fc from "fast-check";
import { BOUNDS } from "../../shared/bounds.ts";
import type {
  BlockRecord,
  ClusterState,
  NetworkRecord,
  NodeRecord,
  VipRecord,
} from "../../shared/cluster-state.ts";
import { NetworkId, NodeId, Vni } from "../../shared/ids.ts";
import { Cidr, Ip } from "../../shared/ip.ts";
import { sha256 } from "../../shared/node/system.ts";
import { ALPHABET, app, clusterState, node } from "./cluster.ts";

/** One of as many as there are numbers; no key has it. */
function anyNodeId(k: number): NodeId {
  const bytes = [1, 2].flatMap((n) => [...sha256.sha256(new TextEncoder().encode(`${n} ${k}`))]);
  const text = bytes.slice(0, 45).map((byte) => ALPHABET[byte % ALPHABET.length]);
  return NodeId.parse(`12D3Koo${text.join("")}`);
}

function manyNodes(count: number): NodeRecord[] {
  return Array.from({ length: count }, (_, i) => ({
    ...node(1),
    id: anyNodeId(i + 1),
    name: `host-${i + 1}`,
    index: i + 1,
  }));
}

function manyNetworks(count: number): NetworkRecord[] {
  return Array.from({ length: count }, (_, i) => ({
    ...app,
    id: NetworkId.parse((i + 1).toString(16).padStart(32, "0")),
    name: `network-${i + 1}`,
    vni: Vni.parse(256 + i),
    createdBy: anyNodeId(1),
  }));
}

/** Block `n` of host `node` on a network. */
function block(network: NetworkRecord, { id }: NodeRecord, n: number): BlockRecord {
  return { network: network.id, node: id, block: Cidr.parse(`10.${n >> 8}.${n & 255}.0/24`) };
}

/** So many hosts and networks, each network with a block on ten hosts, or on all. */
export function stateOfSize(hosts: number, networks: number): ClusterState {
  const [nodes, all] = [manyNodes(hosts), manyNetworks(networks)];
  const blocks = all.flatMap((network, i) =>
    [...nodes, ...nodes]
      .slice(i % hosts, (i % hosts) + Math.min(10, hosts))
      .map((host, n) => block(network, host, n)),
  );
  return clusterState(1, { nodes, networks: all, blocks });
}

/** The next revision: block `n` of its first network is given to one of its hosts. */
export function withBlock(state: ClusterState, n: number): ClusterState {
  const host = state.nodes[n % state.nodes.length]!;
  const given = block(state.networks[0]!, host, 100 + n);
  return { ...state, revision: state.revision + 1, blocks: [...state.blocks, given] };
}

/** The bounds (shared/bounds.ts); the same with one block more; the same with another host in the place of one. */
export function largestStates(): [ClusterState, ClusterState, ClusterState] {
  const state = stateOfSize(BOUNDS.nodes, BOUNDS.networks);
  const joined = { ...manyNodes(1)[0]!, id: anyNodeId(BOUNDS.nodes + 1) };
  const nodes = [...state.nodes.slice(0, -1), joined];
  return [state, withBlock(state, 500), { ...state, revision: state.revision + 1, nodes }];
}

function vip({ id }: NetworkRecord, n: number): VipRecord {
  return {
    network: id,
    name: `service-${n}`,
    ips: [Ip.parse(`10.255.0.${n}`)],
    blocks: [Cidr.parse("10.255.0.0/24")],
    sticky: n % 2 === 0,
    madeBy: "label",
  };
}

/** Any hosts, networks, blocks and virtual addresses, in any order. */
export const anyState: fc.Arbitrary<ClusterState> = fc
  .record({
    hosts: fc.integer({ min: 1, max: 6 }),
    networks: fc.integer({ min: 0, max: 4 }),
    gone: fc.integer({ min: 0, max: 3 }),
    given: fc.array(fc.tuple(fc.nat(5), fc.nat(3), fc.nat(40)), { maxLength: 20 }),
    revision: fc.integer({ min: 1, max: 1000 }),
    spent: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
  })
  .chain(({ hosts, networks, gone, given, revision, spent }) => {
    const nodes = manyNodes(hosts);
    const all = manyNetworks(networks);
    const blocks = new Map<string, BlockRecord>();
    for (const [host, network, n] of given) {
      const [at, of] = [nodes[host], all[network]];
      if (at !== undefined && of !== undefined) blocks.set(`${network} ${n}`, block(of, at, n));
    }
    return fc.record({
      revision: fc.constant(revision),
      ...(spent && { numbers: fc.constant({ vni: 256 + spent, nodeIndex: spent }) }),
      nodes: shuffled(nodes),
      networks: shuffled(all),
      blocks: shuffled([...blocks.values()]),
      vips: shuffled(
        all.flatMap((network, i) => Array.from({ length: i }, (_, n) => vip(network, n))),
      ),
      revoked: shuffled(Array.from({ length: gone }, (_, i) => anyNodeId(100 + i))),
    });
  })
  .map(({ vips, ...changes }) => clusterState(1, { ...changes, ...(vips.length > 0 && { vips }) }));

function shuffled<T>(list: readonly T[]): fc.Arbitrary<T[]> {
  return fc.shuffledSubarray([...list], { minLength: list.length });
}
