import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { decodeChange, encodeChange } from "../../../shared/state/change.ts";
import { keyParts } from "../../../shared/state/object-key.ts";
import { ObjectTree } from "../../../shared/state/object-tree.ts";
import {
  changeBetween,
  inOneOrder,
  objectsOf,
  stateOf,
  stateWith,
} from "../../../shared/state/objects.ts";
import { app, clusterState, nodeId } from "../../support/cluster.ts";
import { anyState, largestStates } from "../../support/states.ts";

/** Whatever the order of its lists. */
function content({ nodes, networks, revoked, blocks, vips = [], ...rest }: ClusterState) {
  const sorted = (list: readonly unknown[]): string[] =>
    list.map((one) => JSON.stringify(one)).toSorted();
  return {
    ...rest,
    nodes: sorted(nodes),
    networks: sorted(networks),
    revoked: sorted(revoked),
    vips: sorted(vips),
    blocks: sorted(blocks.map(({ network, node, block }) => [network, node, block])),
  };
}

const state = clusterState(3, { revoked: [nodeId(9)] });
const objects = objectsOf(state);

describe("a state as objects", () => {
  test("says what the state says", () => {
    fc.assert(
      fc.property(anyState, (any) => {
        expect(content(stateOf(any, objectsOf(any)))).toEqual(content(any));
      }),
      { numRuns: 60 },
    );
  });

  test("is read in one order, whatever the order of its objects", () => {
    fc.assert(
      fc.property(anyState, (any) => {
        const there = objectsOf(any);
        const turned = [...there].toReversed();
        expect(stateOf(any, turned)).toEqual(stateOf(any, there));
        expect(objectsOf(stateOf(any, there))).toEqual(there);
      }),
      { numRuns: 60 },
    );
  });

  test("a state that was told whole has the same lists in the same order, and is let be when it has", () => {
    fc.assert(
      fc.property(anyState, (any) => {
        const read = stateOf(any, objectsOf(any));
        const { nodes, networks, revoked, blocks: places, vips } = inOneOrder(any);
        expect([nodes, networks, revoked, places, vips]).toEqual([
          read.nodes,
          read.networks,
          read.revoked,
          read.blocks,
          read.vips,
        ]);
        expect(inOneOrder(read)).toBe(read);
      }),
      { numRuns: 60 },
    );
    const tables = new Tables();
    const turned = { ...state, blocks: state.blocks.toReversed() };
    tables.mergeState(turned);
    expect(tables.state?.blocks).toEqual(stateOf(state, objectsOf(state)).blocks);
  });

  test("an object of a kind to come is left out in reading, and has a key of no kind", () => {
    const more = new Map<string, Uint8Array>(objects).set("policy/7", encodeCbor({ any: 1 }));
    expect(stateOf(state, more)).toEqual(stateOf(state, objects));
    expect(keyParts("policy/7")).toEqual({ kind: "unknown" });
  });

  test.each([
    ["settings", undefined, /settings: it is missing/],
    ["controller", encodeCbor({}), /controller: /],
    [`node/${nodeId(2)}`, objects.get(`node/${nodeId(1)}`), /it is of 12D3Koo/],
    [`network/${app.id}`, encodeCbor(7), /network\/0a0a/],
    [`node/${nodeId(1)}`, new Uint8Array(BOUNDS.stateBytes + 1), /at most 2097152/],
  ])("%s that cannot be read is refused by its key", (key, bytes, why) => {
    const bad = new Map<string, Uint8Array>(objects);
    if (bytes === undefined) bad.delete(key);
    else bad.set(key, bytes);
    expect(() => stateOf(state, bad)).toThrow(why);
  });

  test("so are a host's blocks", () => {
    const bad = new Map(objects).set(`blocks/${app.id}/${nodeId(1)}`, encodeCbor([]));
    expect(() => stateOf(state, bad)).toThrow(/blocks\/0a0a.*\/12D3Koo/);
  });

  test.each([
    "",
    "node",
    "node/",
    "node/x",
    "settings/x",
    "blocks/x",
    `network/${app.id}/x`,
    `blocks/${app.id}`,
  ])("%j is the key of nothing", (key) => {
    expect(keyParts(key)).toEqual({ kind: "unknown" });
  });
});

describe("a change", () => {
  test("of what was there is what is there, as objects and as a state, whatever is the same record in both", () => {
    fc.assert(
      fc.property(anyState, anyState, fc.boolean(), (from, to, isShared) => {
        const shared = isShared ? sharing(from, to) : to;
        const change = changeBetween(from, shared);
        const tree = ObjectTree.of(objectsOf(from), sha256).with(change);
        expect(new Map(tree.entries())).toEqual(objectsOf(to));
        const held = objectsOf(from);
        for (const [key, bytes] of change.put) expect(held.get(key as never)).not.toEqual(bytes);
        const before = stateOf(from, objectsOf(from));
        expect(stateWith(before, to, change)).toEqual(stateOf(to, objectsOf(to)));
        expect(changeBetween(to, shared)).toEqual({ put: [], drop: [] });
        expect(decodeChange(encodeChange(change))).toEqual(change);
      }),
      { numRuns: 60 },
    );
  });

  test("one block at 1,000 hosts, 4,000 networks and 40,000 blocks is less than 250 bytes, a host for another less than 600", () => {
    const [before, given, joined] = largestStates();
    expect(before.blocks).toHaveLength(BOUNDS.blocks);
    const bytesOf = (after: ClusterState): number =>
      encodeChange(changeBetween(before, after)).length;
    expect(bytesOf(given)).toBeLessThan(250);
    expect(bytesOf(joined)).toBeLessThan(600);
  });
});

/** Records that are equal are the same, as after a controller's change. */
function sharing(from: ClusterState, to: ClusterState): ClusterState {
  const held = new Map(
    [...from.nodes, ...from.networks, ...from.blocks].map((one) => [JSON.stringify(one), one]),
  );
  const shared = <T extends object>(list: T[]): T[] =>
    list.map((one) => (held.get(JSON.stringify(one)) as T | undefined) ?? one);
  return {
    ...to,
    nodes: shared(to.nodes),
    networks: shared(to.networks),
    blocks: shared(to.blocks),
  };
}
