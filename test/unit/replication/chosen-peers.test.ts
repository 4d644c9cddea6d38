import { expect, test } from "vitest";
import { wantedPeers } from "../../../agent/core/tables/peers.ts";
import { ChosenPeers } from "../../../agent/replication/chosen-peers.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../../shared/ids.ts";
import { sha256 } from "../../../shared/node/system.ts";
import type { Hasher } from "../../../shared/ports.ts";
import { app, clusterState, node, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const HOSTS = 30;
const random = seededRandom(7);
const networks = Array.from(
  { length: 8 },
  () => Buffer.from(random.bytes(16)).toString("hex") as NetworkId,
);
const self = nodeId(1);

function membersOf(count: number): ClusterState["nodes"] {
  return Array.from({ length: count }, (_, i) => ({ ...node(i + 1), id: nodeId(i + 1) }));
}

const first: ClusterState = {
  ...clusterState(1),
  nodes: membersOf(HOSTS),
  revoked: [],
  networks: networks.map((id) => ({ ...app, id })),
};

test("the choice is what it would be if it were made anew, whatever changed", () => {
  const hosts = new Map<NodeId, { node: NodeId; hosting: NetworkId[] }>();
  const peers = new ChosenPeers(self, sha256);
  let now = first;
  for (let i = 0; i < 400; i++) {
    const dice = random.below(10);
    if (dice < 7) {
      const who = nodeId(1 + random.below(HOSTS));
      const hosting = networks.filter(() => random.below(3) === 0);
      hosts.set(who, { node: who, hosting });
      peers.heard({ node: who, hosting });
    } else if (dice < 8) now = { ...now, revision: now.revision + 1, blocks: [...now.blocks] };
    else if (dice < 9) now = { ...now, nodes: membersOf(HOSTS - random.below(4)) };
    else now = { ...now, revoked: random.below(2) === 0 ? [] : [nodeId(2 + random.below(9))] };
    for (const id of now.revoked) hosts.delete(id);
    peers.changed(now, hosts);
    const hosted = hosts.get(self)?.hosting ?? [];
    const anew = wantedPeers(self, now, hosts, hosted, sha256);
    expect([...peers.chosen].toSorted()).toEqual(anew);
  }
});

test("a block given, and a word of a host on other networks, hash nothing", () => {
  let hashed = 0;
  const counting: Hasher = { sha256: (...parts) => (hashed++, sha256.sha256(...parts)) };
  const [mine, other] = networks;
  const said = (k: number, hosting: NetworkId[]) => ({ node: nodeId(k), hosting });
  const hosts = new Map([said(1, [mine!]), said(2, [mine!]), said(3, [])].map((w) => [w.node, w]));
  const peers = new ChosenPeers(self, counting);
  const hear = (k: number, hosting: NetworkId[]): boolean => {
    const word = said(k, hosting);
    hosts.set(word.node, word);
    peers.heard(word);
    return peers.changed(first, hosts);
  };
  expect(peers.changed(first, hosts)).toBe(true);
  const once = hashed;
  expect(once).toBeGreaterThan(HOSTS - 2);
  expect(peers.changed({ ...first, revision: 9, blocks: [] }, hosts)).toBe(false);
  expect(hear(3, [other!])).toBe(false);
  expect(hashed).toBe(once);
  for (const [k, hosting] of [
    [3, [mine!]],
    [3, []],
    [1, [mine!, other!]],
  ] as const)
    expect(hear(k, [...hosting]), `h${k}`).toBe(true);
});
