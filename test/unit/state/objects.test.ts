import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { applied, blocksDeltas, deltaBetween, deltaBytes } from "../../../shared/state/delta.ts";
import { keyParts } from "../../../shared/state/object-key.ts";
import { contentOf, inOneOrder, stateOf } from "../../../shared/state/objects.ts";
import { app, clusterState, nodeId } from "../../support/cluster.ts";
import { anyState, largeStates } from "../../support/states.ts";

/** Whatever the order of its lists. */
function content({ nodes, networks, revoked, blocks, ...rest }: ClusterState) {
  const sorted = (list: readonly unknown[]): string[] =>
    list.map((one) => JSON.stringify(one)).toSorted();
  return {
    ...rest,
    nodes: sorted(nodes),
    networks: sorted(networks),
    revoked: sorted(revoked),
    blocks: sorted(blocks.map(({ network, node, block }) => [network, node, block])),
  };
}

const state = clusterState(3, { revoked: [nodeId(9)] });
const { objects, blocks } = contentOf(state);

describe("a state as objects", () => {
  test("says what the state says", () => {
    fc.assert(
      fc.property(anyState, (any) => {
        expect(content(stateOf(any, contentOf(any)))).toEqual(content(any));
      }),
      { numRuns: 60 },
    );
  });

  test("is read in one order, whatever the order of its objects", () => {
    fc.assert(
      fc.property(anyState, (any) => {
        const there = contentOf(any);
        const turned = {
          objects: new Map([...there.objects].toReversed()),
          blocks: new Map([...there.blocks].toReversed()),
        };
        expect(stateOf(any, turned)).toEqual(stateOf(any, there));
        expect(contentOf(stateOf(any, there))).toEqual(there);
      }),
      { numRuns: 60 },
    );
  });

  test("a state that was told whole has the same lists in the same order, and is let be when it has", () => {
    fc.assert(
      fc.property(anyState, (any) => {
        const read = stateOf(any, contentOf(any));
        const { nodes, networks, revoked, blocks: places } = inOneOrder(any);
        expect([nodes, networks, revoked, places]).toEqual([
          read.nodes,
          read.networks,
          read.revoked,
          read.blocks,
        ]);
        expect(inOneOrder(read)).toBe(read);
      }),
      { numRuns: 60 },
    );
    const tables = new Tables();
    const turned = { ...state, blocks: state.blocks.toReversed() };
    tables.mergeState(turned);
    expect(tables.state?.blocks).toEqual(stateOf(state, contentOf(state)).blocks);
  });

  test("an object of a kind to come is left out in reading, and has a key of no kind", () => {
    const more = new Map(objects).set("policy/7", encodeCbor({ any: 1 }));
    expect(stateOf(state, { objects: more, blocks })).toEqual(stateOf(state, { objects, blocks }));
    expect(keyParts("policy/7")).toEqual({ kind: "unknown" });
  });

  test.each([
    ["settings", undefined, /settings: it is missing/],
    ["controller", encodeCbor({}), /controller: /],
    [`node/${nodeId(2)}`, objects.get(`node/${nodeId(1)}`), /it is of 12D3Koo/],
    [`network/${app.id}`, encodeCbor(7), /network\/0a0a/],
    [`node/${nodeId(1)}`, new Uint8Array(BOUNDS.stateBytes + 1), /at most 2097152/],
  ])("%s that cannot be read is refused by its key", (key, bytes, why) => {
    const bad = new Map(objects);
    if (bytes === undefined) bad.delete(key);
    else bad.set(key, bytes);
    expect(() => stateOf(state, { objects: bad, blocks })).toThrow(why);
  });

  test("so are a host's blocks", () => {
    const bad = new Map([[app.id, new Map([[nodeId(1), encodeCbor([])]])]]);
    expect(() => stateOf(state, { objects, blocks: bad })).toThrow(/blocks\/0a0a.*\/12D3Koo/);
  });

  test.each(["", "node", "node/", "node/x", "settings/x", "blocks/x", `network/${app.id}/x`])(
    "%j is the key of nothing",
    (key) => {
      expect(keyParts(key)).toEqual({ kind: "unknown" });
    },
  );
});

describe("a change", () => {
  test("applied to what was there is what is there", () => {
    fc.assert(
      fc.property(anyState, anyState, (from, to) => {
        const [before, after] = [contentOf(from), contentOf(to)];
        const delta = deltaBetween(before, after, sha256);
        expect(applied(before.objects, delta)).toEqual(new Map(after.objects));
        const now = new Map(before.blocks);
        for (const change of blocksDeltas(before, after)) {
          const hosts = applied(now.get(change.network) ?? new Map(), change);
          if (hosts.size > 0) now.set(change.network, hosts);
          else now.delete(change.network);
        }
        expect(now).toEqual(after.blocks);
        expect(delta.blocks.map(([network]) => network)).toEqual(
          blocksDeltas(before, after).map(({ network }) => network),
        );
        expect(deltaBetween(after, after, sha256)).toEqual({ put: [], drop: [], blocks: [] });
      }),
      { numRuns: 60 },
    );
  });

  test("one block in a cluster of 1,000 hosts is less than 200 bytes, a host less than 500, of 480 KB", () => {
    const [before, given, joined] = largeStates();
    const bytesOf = (after: ClusterState): number =>
      deltaBytes(deltaBetween(contentOf(before), contentOf(after), sha256)).length;
    expect(bytesOf(given)).toBeLessThan(200);
    const [blocksDelta] = blocksDeltas(contentOf(before), contentOf(given));
    expect(encodeCbor(blocksDelta).length).toBeLessThan(200);
    expect(bytesOf(joined)).toBeLessThan(500);
    expect(encodeCbor(before).length).toBeGreaterThan(480_000);
  });
});
