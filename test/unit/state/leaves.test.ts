import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeCbor, hex } from "../../../shared/codec.ts";
import { sha256 } from "../../../shared/node/system.ts";
import type { Hasher } from "../../../shared/ports.ts";
import { deltaBetween, leafChanges, leavesOf } from "../../../shared/state/delta.ts";
import { BUCKETS, differing, leafOf, Leaves, rootOf } from "../../../shared/state/leaves.ts";
import { contentOf } from "../../../shared/state/objects.ts";
import { anyState, largeStates } from "../../support/states.ts";

const leaf = (n: number): Uint8Array => leafOf(Uint8Array.of(n), sha256);

/** Of what is in it, not what it said before. */
const rootNow = (leaves: Leaves): string => hex(rootOf(leaves.bucketHashes(), sha256));

describe("the leaves of a state", () => {
  test("changed by what changed are those of the whole, and the ones before are as they were", () => {
    fc.assert(
      fc.property(fc.array(anyState, { minLength: 2, maxLength: 6 }), (states) => {
        const all = states.map(contentOf);
        let [content, leaves] = [all[0]!, leavesOf(all[0]!, sha256)];
        for (const next of all.slice(1)) {
          const changes = leafChanges(deltaBetween(content, next, sha256), sha256);
          const changed = leaves.with(changes);
          expect(rootNow(changed)).toBe(hex(leavesOf(next, sha256).root()));
          expect(rootNow(leaves)).toBe(hex(leavesOf(content, sha256).root()));
          [content, leaves] = [next, changed];
        }
      }),
      { numRuns: 40 },
    );
  });

  test("every object and every host's blocks count", () => {
    fc.assert(
      fc.property(anyState, fc.nat(), (state, n) => {
        const { objects, blocks } = contentOf(state);
        const root = hex(leavesOf({ objects, blocks }, sha256).root());
        const key = [...objects.keys()][n % objects.size]!;
        const other = new Map(objects).set(key, encodeCbor("another"));
        const gone = new Map(objects);
        gone.delete(key);
        const more = new Map(objects).set("policy/7", encodeCbor(1));
        for (const changed of [other, gone, more])
          expect(hex(leavesOf({ objects: changed, blocks }, sha256).root())).not.toBe(root);
        for (const [network, hosts] of blocks) {
          const [node] = hosts.keys();
          const changed = new Map(blocks).set(network, new Map(hosts).set(node!, encodeCbor([])));
          expect(hex(leavesOf({ objects, blocks: changed }, sha256).root())).not.toBe(root);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("a block more, of 1,000 hosts and 200 networks, hashes one bucket and the root on every host", () => {
    const [before, given] = largeStates().map(contentOf);
    const delta = deltaBetween(before!, given!, sha256);
    let [calls, bytes] = [0, 0];
    const counting: Hasher = {
      sha256: (...parts) => {
        calls++;
        bytes += parts.reduce((sum, { length }) => sum + length, 0);
        return sha256.sha256(...parts);
      },
    };
    const leaves = leavesOf(before!, counting);
    leaves.root();
    [calls, bytes] = [0, 0];
    expect(hex(leaves.with(leafChanges(delta, counting)).root())).toBe(
      hex(leavesOf(given!, sha256).root()),
    );
    // The key, its bucket, the root of 8 KB.
    expect(calls).toBe(3);
    expect(bytes).toBeLessThan(10_000);
  });

  test("what is said of buckets is held against the root", () => {
    const leaves = Leaves.none(sha256).with([["settings", leaf(1)]]);
    expect(rootOf(leaves.bucketHashes(), sha256)).toEqual(leaves.root());
    const lie = leaves.bucketHashes();
    lie[7] = leaf(2);
    expect(rootOf(lie, sha256)).not.toEqual(leaves.root());
    expect(differing(leaves.bucketHashes(), lie)).toEqual([7]);
    expect(differing(leaves.bucketHashes(), [])).toHaveLength(BUCKETS);
  });

  test("an object's bytes are never taken for a bucket or a root, whatever they hold", () => {
    const leaves = Leaves.none(sha256).with([["settings", leaf(1)]]);
    const asObject = Uint8Array.from(leaves.bucketHashes().flatMap((hash) => [...hash]));
    expect(leafOf(asObject, sha256)).not.toEqual(leaves.root());
  });

  test.each(["ü", "x".repeat(256)])("a key that is not of a state is refused: %s", (key) => {
    expect(() => Leaves.none(sha256).with([[key, leaf(1)]])).toThrow(/key/);
  });
});
