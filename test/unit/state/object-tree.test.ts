import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeCbor, hex } from "../../../shared/codec.ts";
import { sha256 } from "../../../shared/node/system.ts";
import {
  bucketHash,
  BUCKETS,
  differing,
  ObjectTree,
  rootOf,
} from "../../../shared/state/object-tree.ts";
import { changeBetween, objectsOf } from "../../../shared/state/objects.ts";
import { countingHasher } from "../../support/counting-hasher.ts";
import { anyState, largestStates } from "../../support/states.ts";

const treeOf = (objects: Iterable<readonly [string, Uint8Array]>): ObjectTree =>
  ObjectTree.of(objects, sha256);

/** Of what is in it, not what it said before. */
const rootNow = (tree: ObjectTree): string => {
  const hashes = Array.from({ length: BUCKETS }, (_, n) => bucketHash(tree.bucket(n), sha256));
  return hex(rootOf(Buffer.concat(hashes), sha256));
};

describe("the objects of a state under one root", () => {
  test("changed by what changed they are those of the whole, and the ones before are as they were", () => {
    fc.assert(
      fc.property(fc.array(anyState, { minLength: 2, maxLength: 6 }), (states) => {
        let [state, tree] = [states[0]!, treeOf(objectsOf(states[0]!))];
        for (const next of states.slice(1)) {
          const changed = tree.with(changeBetween(state, next));
          expect(hex(changed.root())).toBe(rootNow(treeOf(objectsOf(next))));
          expect(hex(changed.root())).toBe(rootNow(changed));
          expect(hex(tree.root())).toBe(rootNow(treeOf(objectsOf(state))));
          [state, tree] = [next, changed];
        }
      }),
      { numRuns: 20 },
    );
  });

  test("every object counts, a host's blocks of a network among them", () => {
    fc.assert(
      fc.property(anyState, fc.nat(), (state, n) => {
        const objects = objectsOf(state);
        const root = hex(treeOf(objects).root());
        const key = [...objects.keys()][n % objects.size]!;
        const other = new Map<string, Uint8Array>(objects).set(key, encodeCbor("another"));
        const gone = new Map(objects);
        gone.delete(key);
        const more = new Map<string, Uint8Array>(objects).set("policy/7", encodeCbor(1));
        for (const changed of [other, gone, more])
          expect(hex(treeOf(changed).root())).not.toBe(root);
      }),
      { numRuns: 20 },
    );
  });

  test("a block more, of 1,000 hosts, 4,000 networks and 40,000 blocks, hashes one bucket and the root", () => {
    const [before, given] = largestStates();
    const counted = countingHasher();
    const tree = ObjectTree.of(objectsOf(before), counted.hasher);
    tree.root();
    counted.reset();
    const changed = tree.with(changeBetween(before, given));
    expect(hex(changed.root())).toBe(hex(treeOf(objectsOf(given)).root()));
    // The key, its bucket, the root of 32 KB.
    expect(counted.calls).toBe(3);
    expect(counted.bytes).toBeLessThan(48 * 1024);
  });

  test("what is said of buckets is held against the root", () => {
    const tree = treeOf([["settings", encodeCbor(1)]]);
    expect(rootOf(tree.bucketHashes(), sha256)).toEqual(tree.root());
    const lie = tree.bucketHashes().slice();
    lie[7 * 32] = lie[7 * 32]! ^ 1;
    expect(rootOf(lie, sha256)).not.toEqual(tree.root());
    expect(differing(tree.bucketHashes(), lie)).toEqual([7]);
    expect(differing(tree.bucketHashes(), new Uint8Array())).toHaveLength(BUCKETS);
  });

  test("where an object ends and the next begins counts, and a bucket is never taken for a root", () => {
    const hashes = [
      [["ab", Uint8Array.of(1)]],
      [["a", Uint8Array.of(98, 1)]],
      [
        ["a", new Uint8Array()],
        ["b", Uint8Array.of(1)],
      ],
    ].map((objects) => hex(bucketHash(new Map(objects as [string, Uint8Array][]), sha256)));
    expect(new Set(hashes).size).toBe(3);
    expect(hex(bucketHash(new Map(), sha256))).not.toBe(hex(rootOf(new Uint8Array(), sha256)));
  });

  test.each(["ü", "x".repeat(256)])("a key that is not of a state is refused: %s", (key) => {
    expect(() => treeOf([[key, encodeCbor(1)]])).toThrow(/key/);
  });
});
