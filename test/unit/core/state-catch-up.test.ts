import { beforeEach, describe, expect, test } from "vitest";
import {
  type ClusterOutput,
  newClusterCounters,
} from "../../../agent/core/tables/cluster-output.ts";
import {
  answerOf,
  type CatchUpAnswer,
  type CatchUpRequest,
  type CaughtUp,
  questionOf,
  StateCatchUp,
} from "../../../agent/core/tables/state-catch-up.ts";
import type { ClusterState, SignedHead } from "../../../shared/cluster-state.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { answerTo } from "../../../shared/state/catch-up.ts";
import { headOf } from "../../../shared/state/head.ts";
import { type HeldState, heldState } from "../../../shared/state/held-state.ts";
import { ObjectTree } from "../../../shared/state/object-tree.ts";
import { objectsOf } from "../../../shared/state/objects.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";

/** A host on its way to a head: whom it asks what, and what it makes of the answers. */

function held(state: ClusterState): HeldState {
  const objects = ObjectTree.of(objectsOf(state), sha256);
  return heldState(headOf(state, objects), objects)!;
}

const [first, second, third] = [3, 4, 5].map((hosts, n) =>
  held({ ...clusterState(hosts), revision: n + 1 }),
) as [HeldState, HeldState, HeldState];
const signedOf = ({ head }: HeldState): SignedHead => ({
  jws: String(head.revision),
  controllerCertificate: "",
});

const TIMEOUT_MS = 1000;
const PEERS = [1, 2, 3].map(nodeId) as [NodeId, NodeId, NodeId];
const [one, two, three] = PEERS;
let counters: ReturnType<typeof newClusterCounters>;
let asked: (readonly [NodeId, CatchUpRequest])[];
let isAlone: boolean;
let catchUp: StateCatchUp;

beforeEach(() => {
  [counters, asked, isAlone] = [newClusterCounters(), [], false];
  catchUp = new StateCatchUp({
    hasher: sha256,
    counters,
    timeoutMs: TIMEOUT_MS,
    another: (than) => (isAlone ? undefined : PEERS[(PEERS.indexOf(than) + 1) % PEERS.length]),
    ask: (to, request) => {
      asked.push([to, request]);
      return [];
    },
  });
});

const begin = (state: HeldState, from = one): ClusterOutput[] =>
  catchUp.begin(from, signedOf(state), state.head, first, 0);

function honest(peer: HeldState, request: CatchUpRequest): CatchUpAnswer {
  return peer.head.root === request.root
    ? answerOf(answerTo(questionOf(request), peer, 1))
    : { v: 1, kind: "stateHead", head: signedOf(peer) };
}

/** Whoever is asked answers so, until it is over or somebody tells another head. */
function answeredBy(
  answer: (peer: NodeId, request: CatchUpRequest) => CatchUpAnswer,
): CaughtUp | ClusterOutput[] {
  for (let n = 0; n < 200; n++) {
    const [peer, request] = asked.at(-1)!;
    const count = asked.length;
    const next = catchUp.answered(peer, answer(peer, request), 0);
    if ("held" in next || next.length > 0 || asked.length === count) return next;
  }
  throw new Error("it does not end");
}

const everybody = (state: HeldState) => (_: NodeId, request: CatchUpRequest) =>
  honest(state, request);

const contents = ({ objects }: HeldState) => new Map(objects.entries());

test("it ends with all objects of the head, and its signature", () => {
  begin(second);
  const end = answeredBy(everybody(second)) as CaughtUp;
  expect(end.signed).toEqual(signedOf(second));
  expect(end.held.head).toEqual(second.head);
  expect(contents(end.held)).toEqual(contents(second));
  expect(new Set(asked.map(([peer]) => peer))).toEqual(new Set([one]));
  expect(counters).toMatchObject({ caughtUp: 1, badState: 0 });
  expect(catchUp.towards()).toBeUndefined();
});

const lies: [string, (answer: CatchUpAnswer) => CatchUpAnswer][] = [
  [
    "is false",
    (answer) =>
      answer.kind === "stateObjects"
        ? {
            ...answer,
            buckets: answer.buckets.map(([n, entries]) => [
              n,
              entries.map(([key]) => [key, encodeCbor("false")]),
            ]),
          }
        : answer,
  ],
  [
    "is withheld",
    (answer) =>
      answer.kind === "stateObjects"
        ? { ...answer, buckets: answer.buckets.map(([n, entries]) => [n, entries.slice(1)]) }
        : answer,
  ],
  [
    "is answered with what is there already",
    (answer) => {
      const [bucket] = asked.flatMap(([, request]) =>
        "buckets" in request ? request.buckets : [],
      );
      if (bucket === undefined) return answer;
      return answerOf(answerTo({ kind: "objects", buckets: [bucket] }, second, 1));
    },
  ],
  ["is answered with the hashes again", () => answerOf(answerTo({ kind: "hashes" }, second, 1))],
  [
    "is not answered",
    (answer) => (answer.kind === "stateObjects" ? { ...answer, buckets: [] } : answer),
  ],
];

test.each(lies)("what %s is asked of another peer, and its sender counted", (_, lie) => {
  begin(second);
  const end = answeredBy((peer, request) =>
    peer === one ? lie(honest(second, request)) : honest(second, request),
  ) as CaughtUp;
  expect(contents(end.held)).toEqual(contents(second));
  expect(counters).toMatchObject({ caughtUp: 1, badState: 1 });
});

test("who is silent, or cannot answer, is left for another", () => {
  begin(second);
  expect(catchUp.nextMs()).toBe(TIMEOUT_MS);
  catchUp.tick(TIMEOUT_MS - 1);
  expect(asked).toHaveLength(1);
  catchUp.tick(TIMEOUT_MS);
  catchUp.failed(two, TIMEOUT_MS);
  expect(asked.map(([peer]) => peer)).toEqual([one, two, three]);
  // Too late.
  expect(catchUp.answered(one, honest(second, asked[0]![1]), TIMEOUT_MS)).toEqual([]);
  expect((answeredBy(everybody(second)) as CaughtUp).held.head).toEqual(second.head);
});

test("when all fail, or nobody is there, it is over until somebody tells a head again", () => {
  begin(second);
  answeredBy(() => ({ v: 1, kind: "stateHashes", hashes: new Uint8Array() }));
  expect(catchUp.towards()).toBeUndefined();
  expect(counters.badState).toBe(8);
  isAlone = true;
  begin(second);
  catchUp.failed(one, 0);
  expect(catchUp.nextMs()).toBe(Infinity);
  begin(second);
  expect((answeredBy(everybody(second)) as CaughtUp).held.head).toEqual(second.head);
});

describe("a newer head on the way", () => {
  test("is gone on to, by questions to who has it", () => {
    begin(second);
    const [peer, request] = asked.at(-1)!;
    catchUp.answered(peer, honest(second, request), 0);
    const before = asked.length;
    begin(third, two);
    expect(catchUp.towards()).toBe(third.head.revision);
    const end = answeredBy(everybody(third)) as CaughtUp;
    expect(end.held.head).toEqual(third.head);
    expect(contents(end.held)).toEqual(contents(third));
    expect(asked.slice(before).every(([peer]) => peer === two)).toBe(true);
  });

  test("that who is asked has by now is verified, then gone on to", () => {
    begin(second);
    const outputs = answeredBy(everybody(third));
    expect(outputs).toEqual([{ kind: "verifyHead", from: one, signed: signedOf(third) }]);
    begin(third);
    expect((answeredBy(everybody(third)) as CaughtUp).held.head).toEqual(third.head);
  });

  test("an older one of another peer changes nothing, that of the asked one is what there is", () => {
    begin(third);
    begin(second, two);
    expect(catchUp.towards()).toBe(third.head.revision);
    begin(second);
    expect(catchUp.towards()).toBe(second.head.revision);
  });
});
