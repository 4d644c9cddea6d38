import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { ClusterId } from "../../../shared/ids.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { encodeChange } from "../../../shared/state/change.ts";
import { EarlyChanges } from "../../../shared/state/early-changes.ts";
import {
  changesHash,
  compareHeads,
  headOf,
  isFork,
  type StateHead,
} from "../../../shared/state/head.ts";
import { type HeldState, heldState, take } from "../../../shared/state/held-state.ts";
import { ObjectTree } from "../../../shared/state/object-tree.ts";
import { changeBetween, objectsOf } from "../../../shared/state/objects.ts";
import { clusterState } from "../../support/cluster.ts";
import { anyState } from "../../support/states.ts";

interface Published {
  readonly head: StateHead;
  readonly change: Uint8Array;
  readonly objects: ObjectTree;
}

/** What a controller signs, revision after revision, each with what changed since the one before. */
function published(states: readonly ClusterState[]): [Published, ...Published[]] {
  const all: Published[] = [];
  for (const [i, state] of states.entries()) {
    const objects = ObjectTree.of(objectsOf(state), sha256);
    const [before, was] = [all.at(-1), states[i - 1]];
    const change = encodeChange(was ? changeBetween(was, state) : { put: [], drop: [] });
    const from = before && { base: before.head, change, hasher: sha256 };
    all.push({ head: headOf({ ...state, revision: i + 1 }, objects, from), change, objects });
  }
  return all as [Published, ...Published[]];
}

const first = ([{ head, objects }]: readonly [Published, ...Published[]]): HeldState =>
  heldState(head, objects)!;

type Told = Pick<Published, "head" | "change">;

/** What a host makes of one change after another, those that came early among them. */
function follow(
  held: HeldState,
  offered: readonly Told[],
  seen: (now: HeldState) => void = () => {},
): HeldState {
  const early = new EarlyChanges<Told>();
  let now = held;
  for (const each of offered) {
    let next: Told | undefined = each;
    while (next !== undefined) {
      const taken = take(now, next.head, next.change, sha256);
      if (taken.kind === "gap") early.keep(next, 1);
      if (taken.kind !== "taken") break;
      now = taken.held;
      seen(now);
      next = early.next(now.head);
    }
  }
  return now;
}

const history = fc.array(anyState, { minLength: 2, maxLength: 6 }).map(published);
const three = published([1, 2, 3].map((n) => clusterState(n)));
const [one, two, last] = three as [Published, Published, Published];

describe("a state that follows its controller", () => {
  test("in any order, doubled, with lies among them: always one that was signed, never an older one, in the end the last", () => {
    fc.assert(
      fc.property(history, fc.infiniteStream(fc.nat()), (all, numbers) => {
        const number = (bound: number): number => numbers.next().value % bound;
        const rest = all.slice(1);
        const lies = rest.map((each) => ({ ...each, change: rest[number(rest.length)]!.change }));
        const offered = [...rest, ...rest, ...lies]
          .map((each) => ({ each, at: number(1000) }))
          .toSorted((a, b) => a.at - b.at)
          .map(({ each }) => each);
        let revision = 1;
        const end = follow(first(all), offered, ({ head, objects }) => {
          expect(head.revision).toBeGreaterThan(revision);
          revision = head.revision;
          const signed = all[revision - 1]!;
          expect(new Map(objects.entries())).toEqual(new Map(signed.objects.entries()));
        });
        expect(end.head).toEqual(all.at(-1)!.head);
      }),
      { numRuns: 40 },
    );
  });

  test("what was missed is a gap, and nothing of what comes after it shows", () => {
    expect(take(first(three), last.head, last.change, sha256)).toEqual({ kind: "gap" });
    expect(follow(first(three), [last]).head).toBe(one.head);
  });

  test("an older one, and the same again, change nothing", () => {
    const held = follow(first(three), [two, last]);
    for (const { head, change } of [two, last])
      expect(take(held, head, change, sha256)).toEqual({ kind: "known" });
  });

  test("changes that are not the head's are refused before their base is looked at", () => {
    for (const held of [first(three), first([last])])
      expect(take(held, two.head, last.change, sha256)).toEqual({
        kind: "refused",
        why: "changes",
      });
  });

  test("a head that does not hold what it changes is refused", () => {
    const put = [["settings", encodeCbor({})] as const];
    const change = encodeChange({ put, drop: [] });
    const head = { ...two.head, changes: changesHash(change, sha256) };
    expect(take(first(three), head, change, sha256)).toEqual({ kind: "refused", why: "root" });
    const objects = two.objects.with({ put: [["more", encodeCbor(1)]], drop: [] });
    expect(heldState(two.head, objects)).toBeUndefined();
  });

  test("one of another cluster is refused", () => {
    const head = { ...two.head, cluster: ClusterId.parse("d".repeat(32)) };
    expect(take(first(three), head, two.change, sha256)).toEqual({
      kind: "refused",
      why: "cluster",
    });
  });

  test("of two of one revision the greater root wins on both sides, and it is a fork", () => {
    const other = published([clusterState(1), clusterState(5)])[1]!;
    expect(isFork(two.head, other.head)).toBe(true);
    expect(isFork(two.head, two.head)).toBe(false);
    const order = Math.sign(compareHeads(two.head, other.head));
    expect(Math.sign(compareHeads(other.head, two.head))).toBe(-order);
    const [lower, greater] = order < 0 ? [two, other] : [other, two];
    expect(take(first([greater]), lower.head, lower.change, sha256)).toEqual({ kind: "known" });
    // It starts from what neither holds any more: what differs is asked for.
    expect(take(first([lower]), greater.head, greater.change, sha256)).toEqual({ kind: "gap" });
    // What comes after the one does not start from the other, though it has the same revision.
    expect(take(first([other]), last.head, last.change, sha256)).toEqual({ kind: "gap" });
  });
});

describe("what comes before its base", () => {
  test("is bounded in number and bytes, the oldest goes first", () => {
    const all = published(Array.from({ length: 6 }, (_, n) => clusterState(n + 1)));
    const early = new EarlyChanges<Published>({ count: 3, bytes: 1 << 20 });
    for (const each of all) early.keep(each, 1000);
    expect(early.size).toBe(3);
    expect(early.next(all[1]!.head)).toBeUndefined();
    expect(early.next(all[3]!.head)).toMatchObject({ head: all[4]!.head });
    const small = new EarlyChanges<Published>({ count: 3, bytes: 100 });
    for (const each of all) small.keep(each, 101);
    expect(small.size).toBe(0);
  });

  test("is forgotten when what is held has passed it", () => {
    const early = new EarlyChanges<Published>();
    early.keep(two, 1);
    early.keep(last, 1);
    expect(early.next(last.head)).toBeUndefined();
    expect(early.size).toBe(0);
  });
});
