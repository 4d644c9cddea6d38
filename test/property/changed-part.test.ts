import fc from "fast-check";
import { expect, test } from "vitest";
import { changedPart } from "../../agent/core/data-plane/changed-part.ts";
import { changedHolders, type Holder } from "../../agent/core/names/names.ts";
import { difference, SETS, type Sets } from "../../agent/kernel/nft/guard-sets.ts";
import type { EndpointId } from "../../shared/ids.ts";
import { nodeId } from "../support/cluster.ts";

/** What is told of a change, from the part of two lists in which they differ, makes of the one the other. */

const list = fc.array(fc.nat(12), { maxLength: 12 });

test("what is before and after the changed part is in both, and the part is what is between", () => {
  fc.assert(
    fc.property(list, list, (before, after) => {
      const part = changedPart(before, after);
      const shared = before.length - part.before.length;
      expect(after.length - part.after.length).toBe(shared);
      const start = before.findIndex((each, i) => each !== after[i]);
      if (start === -1) expect(part.before).toEqual([]);
      else expect(before.slice(start, start + part.before.length)).toEqual(part.before);
      // Whatever is the least of changes, one that begins and ends with what differs.
      const [first, last] = [0, -1];
      if (part.before.length > 0 && part.after.length > 0)
        expect([part.before.at(first), part.before.at(last)]).not.toEqual([
          part.after.at(first),
          part.after.at(last),
        ]);
      const rebuilt = before.toSpliced(
        start === -1 ? shared : start,
        part.before.length,
        ...part.after,
      );
      expect(rebuilt).toEqual(after);
    }),
    { numRuns: 1000 },
  );
});

/** Of some endpoints two hosts say that they have them, and an endpoint is another object when it has changed. */
const holders = Array.from({ length: 13 }, (_, n): Holder => ({
  endpoint: String(n % 9) as EndpointId,
  node: nodeId(1 + (n % 2)),
  names: [`c${n}`],
  ips: [],
  out: undefined,
}));

test("who knows the holders before knows those after, by what is put and removed", () => {
  fc.assert(
    fc.property(fc.array(fc.uniqueArray(fc.nat(12)), { maxLength: 8 }), (lists) => {
      const known = new Map<EndpointId, Holder>();
      let before: Holder[] = [];
      for (const each of lists) {
        const after = each.map((n) => holders[n]!);
        const { put, remove } = changedHolders(before, after);
        for (const endpoint of remove) known.delete(endpoint);
        for (const holder of put) known.set(holder.endpoint, holder);
        expect(known).toEqual(new Map(after.map((holder) => [holder.endpoint, holder])));
        before = after;
      }
    }),
    { numRuns: 1000 },
  );
});

test("the elements of a set before are those after, by what is added and deleted", () => {
  const none = Object.fromEntries(SETS.map((name) => [name, []])) as unknown as Sets;
  const setsOf = (numbers: readonly number[]): Sets => ({
    ...none,
    speakers: numbers.map((n) => `e${n}`),
  });
  fc.assert(
    fc.property(fc.array(list, { maxLength: 8 }), (lists) => {
      const kernel = new Set<string>();
      let before: readonly number[] = [];
      for (const after of lists) {
        for (const line of difference("t", setsOf(before), setsOf(after)).split("\n")) {
          const elements = /\{ (.*) \}/.exec(line)?.[1]?.split(", ") ?? [];
          for (const element of elements)
            if (line.startsWith("add element inet t speakers ")) kernel.add(element);
            else expect([line.startsWith("delete "), kernel.delete(element)]).toEqual([true, true]);
        }
        expect(kernel).toEqual(new Set(after.map((n) => `e${n}`)));
        before = after;
      }
    }),
    { numRuns: 1000 },
  );
});
