import { BOUNDS } from "../../../shared/bounds.ts";
import type { SignedHead } from "../../../shared/cluster-state.ts";
import { assert } from "../../../shared/errors.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Hasher } from "../../../shared/ports.ts";
import { type Answer, CatchUp, type Question } from "../../../shared/state/catch-up.ts";
import type { StateHead } from "../../../shared/state/head.ts";
import type { HeldState } from "../../../shared/state/held-state.ts";
import type { ClusterSyncAnswer, ClusterSyncRequest } from "./cluster-messages.ts";
import type { ClusterCounters, ClusterOutput } from "./cluster-output.ts";

/** Of objects in one answer: a message has room for the last bucket, however large. */
export const MOST_ANSWER_BYTES = BOUNDS.syncMessageBytes / 4;

/** Then the next comparison of a round begins anew. */
const MOST_FAILURES = 8;

export type CatchUpRequest = Extract<ClusterSyncRequest, { kind: "stateHashes" | "stateObjects" }>;
export type CatchUpAnswer = Extract<
  ClusterSyncAnswer,
  { kind: "stateHashes" | "stateObjects" | "stateHead" }
>;

export interface StateCatchUpModules {
  readonly hasher: Hasher;
  readonly counters: ClusterCounters;
  readonly timeoutMs: number;
  readonly ask: (to: NodeId, request: CatchUpRequest, nowMs: number) => ClusterOutput[];
  /** Some connected peer that answers such questions. */
  readonly another: (than: NodeId) => NodeId | undefined;
}

/** All objects of a signed head. */
export interface CaughtUp {
  readonly signed: SignedHead;
  readonly held: HeldState;
}

/**
 * From what is held to a signed head that no change leads to, one question after the other. Who does not answer, or says what
 * is not the head's, is left for another peer; one that has a newer head leads on to that.
 */
export class StateCatchUp {
  readonly #modules: StateCatchUpModules;
  #way: { readonly to: CatchUp; signed: SignedHead } | undefined;
  #asked: { readonly peer: NodeId; readonly untilMs: number } | undefined;
  #failures = 0;

  constructor(modules: StateCatchUpModules) {
    this.#modules = modules;
  }

  /** The head's signature holds. */
  begin(
    from: NodeId,
    signed: SignedHead,
    head: StateHead,
    held: HeldState | undefined,
    nowMs: number,
  ): ClusterOutput[] {
    const way = this.#way;
    if (way === undefined) {
      this.#way = { to: new CatchUp(held, head, this.#modules.hasher), signed };
      this.#failures = 0;
      return this.#ask(from, nowMs);
    }
    // The one that is asked has no other; any other peer's only if it is newer.
    if (from !== this.#asked?.peer && head.revision <= way.to.head.revision) return [];
    if (head.root === way.to.head.root && head.revision === way.to.head.revision) return [];
    way.to.towards(head);
    way.signed = signed;
    return this.#ask(from, nowMs);
  }

  /** Who was asked says something; what follows, or all that was to be had. */
  answered(from: NodeId, answer: CatchUpAnswer, nowMs: number): ClusterOutput[] | CaughtUp {
    const [way, { counters }] = [this.#way, this.#modules];
    if (way === undefined || from !== this.#asked?.peer) return [];
    if (answer.kind === "stateHead") {
      if (answer.head === undefined) return this.failed(from, nowMs);
      return [{ kind: "verifyHead", from, signed: answer.head }];
    }
    count(answer, counters);
    if (!way.to.take(taken(answer))) {
      counters.badState++;
      return this.failed(from, nowMs);
    }
    const held = way.to.result();
    if (held === undefined) return this.#ask(from, nowMs);
    this.end();
    counters.caughtUp++;
    return { signed: way.signed, held };
  }

  failed(from: NodeId, nowMs: number): ClusterOutput[] {
    if (this.#way === undefined || from !== this.#asked?.peer) return [];
    const to = this.#modules.another(from);
    if (++this.#failures >= MOST_FAILURES || to === undefined) {
      this.end();
      return [];
    }
    return this.#ask(to, nowMs);
  }

  tick(nowMs: number): ClusterOutput[] {
    return this.#asked === undefined || this.#asked.untilMs > nowMs
      ? []
      : this.failed(this.#asked.peer, nowMs);
  }

  nextMs(): number {
    return this.#asked?.untilMs ?? Infinity;
  }

  /** Where it goes to; undefined: nowhere. */
  towards(): number | undefined {
    return this.#way?.to.head.revision;
  }

  end(): void {
    this.#way = undefined;
    this.#asked = undefined;
  }

  #ask(peer: NodeId, nowMs: number): ClusterOutput[] {
    const { to } = this.#way!;
    const question = to.next();
    assert(question !== undefined, "there is something to ask for");
    this.#asked = { peer, untilMs: nowMs + this.#modules.timeoutMs };
    return this.#modules.ask(peer, requestOf(question, to.head.root), nowMs);
  }
}

export function requestOf(question: Question, root: string): CatchUpRequest {
  return question.kind === "hashes"
    ? { v: 1, kind: "stateHashes", root }
    : { v: 1, kind: "stateObjects", root, buckets: [...question.buckets] };
}

export function answerOf(answer: Answer): CatchUpAnswer {
  if (answer.kind === "hashes") return { v: 1, kind: "stateHashes", hashes: answer.hashes };
  const buckets = answer.buckets.map(([index, entries]): [number, [string, Uint8Array][]] => [
    index,
    entries.map(([key, object]) => [key, object]),
  ]);
  return { v: 1, kind: "stateObjects", buckets };
}

type Told = Exclude<CatchUpAnswer, { kind: "stateHead" }>;

/** As it is held against the head. */
export function taken(answer: Told): Answer {
  return answer.kind === "stateHashes"
    ? { kind: "hashes", hashes: answer.hashes }
    : { kind: "objects", buckets: answer.buckets };
}

function count(answer: Told, counters: ClusterCounters): void {
  if (answer.kind === "stateHashes") counters.hashBytes += answer.hashes.length;
  else
    for (const [key, object] of answer.buckets.flatMap(([, entries]) => entries)) {
      counters.objects++;
      counters.objectBytes += key.length + object.length;
    }
}

/** What is asked for of that head. */
export function questionOf(request: CatchUpRequest): Question {
  return request.kind === "stateHashes"
    ? { kind: "hashes" }
    : { kind: "objects", buckets: request.buckets };
}
