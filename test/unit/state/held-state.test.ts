import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { ClusterId } from "../../../shared/ids.ts";
import { sha256 } from "../../../shared/node/system.ts";
import {
  type BlocksDelta,
  blocksDeltas,
  deltaBetween,
  leavesOf,
  type StateDelta,
} from "../../../shared/state/delta.ts";
import { EarlyChanges } from "../../../shared/state/early-changes.ts";
import {
  changesHash,
  compareHeads,
  headOf,
  isFork,
  type StateHead,
} from "../../../shared/state/head.ts";
import {
  blocksOf,
  forgetBlocks,
  type HeldState,
  heldState,
  take,
  takeAllBlocks,
  takeBlocks,
} from "../../../shared/state/held-state.ts";
import { contentOf, type StateContent, stateOf } from "../../../shared/state/objects.ts";
import { app, clusterState, nodeId } from "../../support/cluster.ts";
import { anyState } from "../../support/states.ts";

interface Published {
  readonly head: StateHead;
  readonly delta: StateDelta;
  readonly blocks: readonly BlocksDelta[];
  readonly content: StateContent;
}

const NOTHING: StateContent = { objects: new Map(), blocks: new Map() };

/** What a controller signs, revision after revision, each with what changed since the one before. */
function published(states: readonly ClusterState[]): [Published, ...Published[]] {
  const all: Published[] = [];
  for (const [i, state] of states.entries()) {
    const content = contentOf(state);
    const before = all.at(-1);
    const delta = deltaBetween(before?.content ?? NOTHING, content, sha256);
    const from = before && { base: before.head, delta, hasher: sha256 };
    const head = headOf({ ...state, revision: i + 1 }, leavesOf(content, sha256), from);
    all.push({ head, delta, blocks: blocksDeltas(before?.content ?? NOTHING, content), content });
  }
  return all as [Published, ...Published[]];
}

const first = ([{ head, content }]: readonly [Published, ...Published[]]): HeldState =>
  heldState(head, content, sha256)!;

/** What a host makes of one delta after another, those that came early among them. */
function follow(
  held: HeldState,
  offered: readonly Pick<Published, "head" | "delta">[],
  seen: (now: HeldState) => void = () => {},
): HeldState {
  const early = new EarlyChanges<Pick<Published, "head" | "delta">>();
  let now = held;
  for (const each of offered) {
    let next: Pick<Published, "head" | "delta"> | undefined = each;
    while (next !== undefined) {
      const taken = take(now, next.head, next.delta, sha256);
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
        const lies = rest.map((each) => ({ ...each, delta: rest[number(rest.length)]!.delta }));
        const offered = [...rest, ...rest, ...lies]
          .map((each) => ({ each, at: number(1000) }))
          .toSorted((a, b) => a.at - b.at)
          .map(({ each }) => each);
        let revision = 1;
        const end = follow(first(all), offered, ({ head, objects, leaves }) => {
          expect(head.revision).toBeGreaterThan(revision);
          revision = head.revision;
          const { content } = all[revision - 1]!;
          expect(objects).toEqual(new Map(content.objects));
          expect(leaves.root()).toEqual(leavesOf(content, sha256).root());
        });
        expect(end.head).toEqual(all.at(-1)!.head);
      }),
      { numRuns: 40 },
    );
  });

  test("what was missed is a gap, and nothing of what comes after it shows", () => {
    expect(take(first(three), last.head, last.delta, sha256)).toEqual({ kind: "gap" });
    expect(follow(first(three), [last]).head).toBe(one.head);
  });

  test("an older one, and the same again, change nothing", () => {
    const held = follow(first(three), [two, last]);
    for (const { head, delta } of [two, last])
      expect(take(held, head, delta, sha256)).toEqual({ kind: "known" });
  });

  test("changes that are not the head's are refused before their base is looked at", () => {
    for (const held of [first(three), first([last])])
      expect(take(held, two.head, last.delta, sha256)).toEqual({ kind: "refused", why: "changes" });
  });

  test("a head that does not hold what it changes is refused", () => {
    const delta = { ...two.delta, put: [["settings", encodeCbor({})] as const] };
    const head = { ...two.head, changes: changesHash(delta, sha256) };
    expect(take(first(three), head, delta, sha256)).toEqual({ kind: "refused", why: "root" });
    const objects = new Map(two.content.objects).set("more", encodeCbor(1));
    expect(heldState(two.head, { ...two.content, objects }, sha256)).toBeUndefined();
  });

  test("one of another cluster is refused", () => {
    const head = { ...two.head, cluster: ClusterId.parse("d".repeat(32)) };
    expect(take(first(three), head, two.delta, sha256)).toEqual({
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
    expect(take(first([greater]), lower.head, lower.delta, sha256)).toEqual({ kind: "known" });
    // It starts from what neither holds any more: what differs is asked for.
    expect(take(first([lower]), greater.head, greater.delta, sha256)).toEqual({ kind: "gap" });
    // What comes after the one does not start from the other, though it has the same revision.
    expect(take(first([other]), last.head, last.delta, sha256)).toEqual({ kind: "gap" });
  });
});

describe("blocks", () => {
  const [change] = two.blocks as [BlocksDelta];

  test("of a new head are awaited until they came, and never taken for none", () => {
    const held = follow(first(three), [two]);
    expect(blocksOf(held, app.id)).toBe("awaited");
    const now = takeBlocks(held, change, sha256)!;
    expect(blocksOf(now, app.id)).toEqual(two.content.blocks.get(app.id));
    expect(stateOf(now.head, { objects: now.objects, blocks: two.content.blocks })).toMatchObject({
      revision: 2,
      blocks: [{ node: nodeId(1) }, { node: nodeId(2) }],
    });
  });

  test("that came early, without the change before them, or false, are not taken", () => {
    const held = first(three);
    expect(takeBlocks(held, change, sha256)).toBeUndefined();
    const later = follow(held, [two, last]);
    expect(takeBlocks(later, last.blocks[0]!, sha256)).toBeUndefined();
    const lie = { ...change, put: [[nodeId(2), encodeCbor(["10.1.0.0/24"])] as const] };
    expect(takeBlocks(follow(held, [two]), lie, sha256)).toBeUndefined();
    // As a whole they are, whatever was held.
    const all = last.content.blocks.get(app.id)!;
    expect(blocksOf(takeAllBlocks(later, app.id, all, sha256)!, app.id)).toEqual(all);
    expect(takeAllBlocks(later, app.id, new Map(), sha256)).toBeUndefined();
  });

  test("of a network that this host does not need any more are its leaf alone", () => {
    const held = forgetBlocks(first([last]), app.id);
    expect(held.blocks.size).toBe(0);
    expect(blocksOf(held, app.id)).toBe("awaited");
    expect(held.leaves.root()).toEqual(first([last]).leaves.root());
  });

  test("are none when the last of them is gone", () => {
    const [, gone] = published([clusterState(2), clusterState(2, { blocks: [] })]) as [
      Published,
      Published,
    ];
    const held = follow(first(published([clusterState(2)])), [gone]);
    expect(held.head).toBe(gone.head);
    expect(blocksOf(held, app.id)).toEqual(new Map());
    expect(blocksOf(takeBlocks(held, gone.blocks[0]!, sha256)!, app.id)).toEqual(new Map());
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
