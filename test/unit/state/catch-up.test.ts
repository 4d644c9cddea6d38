import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { sha256 } from "../../../shared/node/system.ts";
import {
  type Answer,
  answerTo,
  CatchUp,
  type NeedsBlocks,
  type Question,
} from "../../../shared/state/catch-up.ts";
import { deltaBetween, leavesOf } from "../../../shared/state/delta.ts";
import { headOf } from "../../../shared/state/head.ts";
import {
  blocksOf,
  forgetBlocks,
  type HeldState,
  heldState,
} from "../../../shared/state/held-state.ts";
import { contentOf, type StateContent } from "../../../shared/state/objects.ts";
import { app, clusterState, nodeId } from "../../support/cluster.ts";
import { anyState, largeStates } from "../../support/states.ts";

const MESSAGE_BYTES = 4 * 1024 * 1024;
const all: NeedsBlocks = () => true;
const none: NeedsBlocks = () => false;

function held(state: ClusterState): HeldState {
  const content = contentOf(state);
  return heldState(headOf(state, leavesOf(content, sha256)), content, sha256)!;
}

function contentOfHeld({ objects, blocks }: HeldState): StateContent {
  return { objects, blocks: new Map([...blocks].map(([network, { hosts }]) => [network, hosts])) };
}

/** Asks until nothing is left to ask; what was asked. */
function asked(way: CatchUp, peer: HeldState, maxBytes = MESSAGE_BYTES): Question[] {
  const questions: Question[] = [];
  for (let question = way.next(); question !== undefined; question = way.next()) {
    questions.push(question);
    expect(way.take(answerTo(question, peer, maxBytes))).toBe(true);
    expect(questions.length).toBeLessThan(2000);
  }
  return questions;
}

const keysAsked = (questions: readonly Question[]): string[] =>
  questions.flatMap((question) => (question.kind === "objects" ? question.keys : [])).toSorted();
const networksAsked = (questions: readonly Question[]): string[] =>
  questions.flatMap((question) => (question.kind === "blocks" ? question.networks : [])).toSorted();

const before = held({ ...clusterState(3), revision: 1 });
const after = held({ ...clusterState(4), revision: 2 });

describe("catching up with a head", () => {
  test("from anything, or nothing, it ends in what was signed, and asks for what differs alone", () => {
    fc.assert(
      fc.property(fc.option(anyState, { nil: undefined }), anyState, (from, to) => {
        const [start, peer] = [from && held(from), held(to)];
        const way = new CatchUp(start, peer.head, all, sha256);
        const questions = asked(way, peer);
        const end = way.result()!;
        expect(end.head).toEqual(peer.head);
        expect(end.leaves.root()).toEqual(peer.leaves.root());
        expect(contentOfHeld(end)).toEqual(contentOf(to));
        const delta = deltaBetween(
          start ? contentOfHeld(start) : { objects: new Map(), blocks: new Map() },
          contentOf(to),
          sha256,
        );
        expect(keysAsked(questions)).toEqual(delta.put.map(([key]) => key));
        expect(networksAsked(questions)).toEqual(
          delta.blocks.flatMap(([network, leaf]) => (leaf === null ? [] : [network])),
        );
      }),
      { numRuns: 60 },
    );
  });

  test("answers that hold little at a time lead to the same", () => {
    const way = new CatchUp(undefined, after.head, all, sha256);
    asked(way, after, 1);
    expect(way.result()?.objects).toEqual(after.objects);
  });

  test("nothing shows before the last answer", () => {
    const way = new CatchUp(before, after.head, all, sha256);
    for (let question = way.next(); question !== undefined; question = way.next()) {
      expect(way.result()).toBeUndefined();
      way.take(answerTo(question, after, MESSAGE_BYTES));
    }
    expect(way.result()?.head).toBe(after.head);
  });

  test("one block among 1,000 hosts and 200 networks: three questions on a host that needs it, two on the others", () => {
    const [state, given] = largeStates().map(held) as [HeldState, HeldState, HeldState];
    const bucket = { kind: "leaves", buckets: [expect.any(Number)] };
    const [network] = contentOf(largeStates()[0]).blocks.keys();
    expect(asked(new CatchUp(state, given.head, all, sha256), given)).toMatchObject([
      { kind: "buckets" },
      bucket,
      { kind: "blocks", networks: [network] },
    ]);
    const way = new CatchUp(state, given.head, none, sha256);
    expect(asked(way, given)).toMatchObject([{ kind: "buckets" }, bucket]);
    expect(way.result()?.blocks.size).toBe(0);
    expect(blocksOf(way.result()!, network!)).toBe("awaited");
  });

  test("of the same head it is the way to blocks that are awaited: one question", () => {
    const way = new CatchUp(forgetBlocks(after, app.id), after.head, all, sha256);
    expect(asked(way, after)).toEqual([{ kind: "blocks", networks: [app.id] }]);
    expect(blocksOf(way.result()!, app.id)).toEqual(blocksOf(after, app.id));
  });

  test("a newer head on the way: what was had is not asked for again", () => {
    const newest = held({ ...clusterState(5), revision: 3 });
    const way = new CatchUp(before, after.head, all, sha256);
    const had = keysAsked(asked(way, after));
    expect(had).toContain(`node/${nodeId(4)}`);
    way.towards(newest.head);
    expect(way.result()).toBeUndefined();
    expect(keysAsked(asked(way, newest)).filter((key) => had.includes(key))).toEqual([]);
    expect(way.result()?.objects).toEqual(newest.objects);
  });
});

describe("an answer that is not of the head", () => {
  /** As far as it is asked for this. */
  function until(kind: Question["kind"]): CatchUp {
    const way = new CatchUp(before, after.head, all, sha256);
    for (let question = way.next(); question?.kind !== kind; question = way.next())
      expect(way.take(answerTo(question!, after, MESSAGE_BYTES))).toBe(true);
    return way;
  }

  const key = `node/${nodeId(4)}`;
  const bucket = after.leaves.bucketHashes().findIndex((_, i) => after.leaves.bucket(i).has(key));
  const lies: [string, Answer][] = [
    ["buckets of another head", answerTo({ kind: "buckets" }, before, MESSAGE_BYTES)],
    ["no buckets", { kind: "buckets", hashes: [] }],
    [
      "a bucket without one of its keys",
      { kind: "leaves", buckets: new Map([[bucket, new Map<string, Uint8Array>()]]) },
    ],
    [
      "another bucket's keys",
      { kind: "leaves", buckets: new Map([[(bucket + 1) % 256, after.leaves.bucket(bucket)]]) },
    ],
    ["no bucket", { kind: "leaves", buckets: new Map() }],
    [
      "a host's blocks left out",
      answerTo({ kind: "blocks", networks: [app.id] }, before, MESSAGE_BYTES),
    ],
    ["a false body", { kind: "objects", objects: new Map([[key, encodeCbor("false")]]) }],
    [
      "the body of another key",
      { kind: "objects", objects: new Map([[key, after.objects.get(`node/${nodeId(1)}`)!]]) },
    ],
    ["what nobody asked for", { kind: "objects", objects: new Map([["more", encodeCbor(1)]]) }],
    ["nothing", { kind: "objects", objects: new Map() }],
  ];

  test.each(lies)("is refused, and another peer's leads on: %s", (_, lie) => {
    const way = until(lie.kind);
    const question = way.next();
    expect(way.take(lie)).toBe(false);
    expect(way.next()).toEqual(question);
    asked(way, after);
    expect(way.result()?.objects).toEqual(after.objects);
  });
});
