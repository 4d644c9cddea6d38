import { expect, test } from "vitest";
import { wantedPeers } from "../../../agent/core/tables/peers.ts";
import { sha256 } from "../../../shared/node/system.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { app, clusterState, node } from "../../support/cluster.ts";

const ids = (count: number): NodeId[] =>
  Array.from({ length: count }, (_, i) => `12D3Koo${String(i).padStart(45, "A")}` as NodeId);

function state(count: number) {
  return clusterState(0, { nodes: ids(count).map((id) => ({ ...node(1), id })) });
}

test("a small cluster is a full mesh, without the host itself and the revoked", () => {
  const [a, b, c] = ids(3) as [NodeId, NodeId, NodeId];
  const three = { ...state(3), revoked: [c] };
  expect(wantedPeers(a, three, new Map(), [], sha256)).toEqual([b]);
});

test("a large cluster is connected, with few peers a host", () => {
  const all = ids(300);
  const large = state(300);
  const edges = new Map(all.map((id) => [id, wantedPeers(id, large, new Map(), [], sha256)]));
  for (const peers of edges.values()) expect(peers.length).toBeLessThanOrEqual(6);
  const seen = new Set<NodeId>([all[0] as NodeId]);
  for (const id of seen) for (const peer of edges.get(id) ?? []) seen.add(peer);
  expect(seen.size).toBe(300);
});

test("hosts of a network on 3 of 300 dial each other", () => {
  const all = ids(300);
  const [a, b, c] = [all[3], all[140], all[280]] as [NodeId, NodeId, NodeId];
  const hosts = new Map([a, b, c].map((id) => [id, { hosting: [app.id] }]));
  const peers = wantedPeers(a, state(300), hosts, [app.id], sha256);
  expect(peers).toContain(b);
  expect(peers).toContain(c);
});

test("hosts of an IPsec network dial each other, however many: they ask each other for keys", () => {
  const all = ids(40);
  const hosts = new Map(all.map((id) => [id, { hosting: [app.id] }]));
  const peersOn = (encryption: "none" | "ipsec") =>
    wantedPeers(
      all[0]!,
      { ...state(40), networks: [{ ...app, encryption }] },
      hosts,
      [app.id],
      sha256,
    );
  expect(peersOn("ipsec")).toHaveLength(39);
  expect(peersOn("none").length).toBeLessThanOrEqual(10);
});
