import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BOUNDS } from "../../../shared/bounds.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { sha256 } from "../../../shared/node/system.ts";
import {
  type Answer,
  answerTo,
  type BucketEntry,
  CatchUp,
  type Question,
} from "../../../shared/state/catch-up.ts";
import { headOf } from "../../../shared/state/head.ts";
import { type HeldState, heldState } from "../../../shared/state/held-state.ts";
import { BUCKETS, ObjectTree } from "../../../shared/state/object-tree.ts";
import { changeBetween, objectsOf } from "../../../shared/state/objects.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";
import { anyState, largestStates, withBlock } from "../../support/states.ts";

function held(state: ClusterState): HeldState {
  const objects = ObjectTree.of(objectsOf(state), sha256);
  return heldState(headOf(state, objects), objects)!;
}

/** Asks until nothing is left to ask; what was asked. */
function asked(
  way: CatchUp,
  peer: HeldState,
  maxBytes: number = BOUNDS.syncMessageBytes,
): Question[] {
  const questions: Question[] = [];
  for (let question = way.next(); question !== undefined; question = way.next()) {
    questions.push(question);
    expect(way.take(answerTo(question, peer, maxBytes))).toBe(true);
    expect(questions.length).toBeLessThan(BUCKETS + 2);
  }
  return questions;
}

const bucketsAsked = (questions: readonly Question[]): number[] =>
  questions.flatMap((question) => (question.kind === "objects" ? question.buckets : []));
const contents = (state: HeldState | undefined) => new Map(state?.objects.entries());

const before = held({ ...clusterState(3), revision: 1 });
const after = held({ ...clusterState(4), revision: 2 });
const key = `node/${nodeId(4)}`;
const bucket = Array.from({ length: BUCKETS }, (_, n) => n).find((n) =>
  after.objects.bucket(n).has(key),
)!;

describe("catching up with a head", () => {
  test("from anything, or nothing, it ends in what was signed, and asks for what differs alone", () => {
    fc.assert(
      fc.property(fc.option(anyState, { nil: undefined }), anyState, (from, to) => {
        const [start, peer] = [from && held(from), held(to)];
        const way = new CatchUp(start, peer.head, sha256);
        const questions = asked(way, peer);
        const end = way.result()!;
        expect(end.head).toEqual(peer.head);
        expect(contents(end)).toEqual(contents(peer));
        const { put, drop } = from
          ? changeBetween(from, to)
          : { put: [...objectsOf(to)], drop: [] };
        const changed = put.length + drop.length;
        expect(bucketsAsked(questions).length).toBeLessThanOrEqual(changed);
      }),
      { numRuns: 30 },
    );
  });

  test("answers that hold little at a time lead to the same", () => {
    const way = new CatchUp(undefined, after.head, sha256);
    expect(asked(way, after, 1).length).toBeGreaterThan(4);
    expect(contents(way.result())).toEqual(contents(after));
  });

  test("nothing shows before the last answer", () => {
    const way = new CatchUp(before, after.head, sha256);
    for (let question = way.next(); question !== undefined; question = way.next()) {
      expect(way.result()).toBeUndefined();
      way.take(answerTo(question, after, BOUNDS.syncMessageBytes));
    }
    expect(way.result()?.head).toBe(after.head);
  });

  test("ten blocks among 1,000 hosts, 4,000 networks and 40,000 blocks: two questions, less than 128 KB", () => {
    let [state] = largestStates();
    const from = held(state);
    for (let n = 0; n < 10; n++) state = withBlock(state, 300 + n);
    const [way, peer] = [new CatchUp(from, held(state).head, sha256), held(state)];
    let bytes = 0;
    const questions: Question["kind"][] = [];
    for (let question = way.next(); question !== undefined; question = way.next()) {
      questions.push(question.kind);
      const answer = answerTo(question, peer, BOUNDS.syncMessageBytes);
      bytes += encodeCbor(answer).length;
      way.take(answer);
    }
    expect(questions).toEqual(["hashes", "objects"]);
    expect(bytes).toBeLessThan(128 * 1024);
    expect(way.result()?.head).toEqual(peer.head);
  });

  test("a newer head on the way: what was had is not asked for again", () => {
    const newest = held({ ...clusterState(5), revision: 3 });
    const way = new CatchUp(before, after.head, sha256);
    expect(bucketsAsked(asked(way, after))).toContain(bucket);
    way.towards(newest.head);
    expect(way.result()).toBeUndefined();
    expect(bucketsAsked(asked(way, newest))).not.toContain(bucket);
    expect(contents(way.result())).toEqual(contents(newest));
  });
});

describe("an answer that is not of the head", () => {
  /** As far as it is asked for this. */
  function until(kind: Question["kind"]): CatchUp {
    const way = new CatchUp(before, after.head, sha256);
    for (let question = way.next(); question?.kind !== kind; question = way.next())
      expect(way.take(answerTo(question!, after, BOUNDS.syncMessageBytes))).toBe(true);
    return way;
  }

  const objects = (...buckets: BucketEntry[]): Answer => ({ kind: "objects", buckets });
  const true1 = [...after.objects.bucket(bucket)];
  const lies: [string, Answer][] = [
    ["hashes of another head", answerTo({ kind: "hashes" }, before, BOUNDS.syncMessageBytes)],
    ["no hashes", { kind: "hashes", hashes: new Uint8Array() }],
    ["an object of it withheld", objects([bucket, []])],
    ["a false object", objects([bucket, true1.map(([name]) => [name, encodeCbor("false")])])],
    ["one object more", objects([bucket, [...true1, ["more", encodeCbor(1)]]])],
    ["the objects of another bucket", objects([(bucket + 1) % BUCKETS, true1])],
    ["a bucket that there is not", objects([BUCKETS, true1])],
    ["nothing", objects()],
  ];

  test.each(lies)("is refused, and another peer's leads on: %s", (_, lie) => {
    const way = until(lie.kind);
    const question = way.next();
    expect(way.take(lie)).toBe(false);
    expect(way.next()).toEqual(question);
    asked(way, after);
    expect(contents(way.result())).toEqual(contents(after));
  });
});
