import { assert } from "../../../shared/errors.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { encodeKeyMessage, type KeyAnswer, type KeyRequest } from "./ipsec-messages.ts";
import type { KeyExchangeOptions } from "./ipsec-options.ts";
import type { Pair } from "./ipsec-pair.ts";
import type { PairKey } from "./pair-key.ts";
import type { SaName } from "./security-association.ts";

/**
 * What the shell must do. Kernel steps (`put`, `remove`, and reading what is held) one after another, in
 * the order given, each answered by `done` before the next begins.
 */
export type KeyOutput =
  | { readonly kind: "put"; readonly id: number; readonly sa: SaName; readonly key: PairKey }
  | { readonly kind: "remove"; readonly id: number; readonly sas: readonly SaName[] }
  | {
      readonly kind: "request";
      readonly id: number;
      readonly to: NodeId;
      readonly bytes: Uint8Array;
      readonly timeoutMs: number;
    }
  /** To the request that was handed in under this id. */
  | { readonly kind: "answer"; readonly id: number; readonly bytes: Uint8Array }
  /** Both directions are there, or no longer: forwarding entries of this peer may be, or not. */
  | { readonly kind: "path"; readonly node: NodeId; readonly ready: boolean };

export type StepDone = (ok: boolean, nowMs: number) => void;
type AnswerDone = (answer: KeyAnswer | undefined, nowMs: number) => void;

interface Step {
  readonly pair: Pair | undefined;
  readonly done: StepDone;
}

interface Question {
  readonly pair: Pair;
  readonly deadlineMs: number;
  /** For a key: only so many at a time. */
  readonly ask: boolean;
  readonly done: AnswerDone;
}

/** What the shell was given to do, and what of it is not done: kernel steps, and questions to peers. */
export class Outbox {
  readonly #local: Ip;
  readonly #options: () => KeyExchangeOptions;
  readonly #steps = new Map<number, Step>();
  /** In the order in which they are given up: all wait equally long. */
  readonly #questions = new Map<number, Question>();
  #asking = 0;
  #lastId = 0;
  #outputs: KeyOutput[] = [];

  constructor(local: Ip, options: () => KeyExchangeOptions) {
    this.#local = local;
    this.#options = options;
  }

  put(pair: Pair, sa: SaName, key: PairKey, done: StepDone): void {
    this.#outputs.push({ kind: "put", id: this.#step(pair, done), sa, key });
  }

  /** `pair` undefined: of none that is wanted. */
  remove(pair: Pair | undefined, sas: readonly SaName[], done: StepDone): void {
    if (sas.length > 0) this.#outputs.push({ kind: "remove", id: this.#step(pair, done), sas });
  }

  request(pair: Pair, request: KeyRequest, nowMs: number, done: AnswerDone): void {
    const id = ++this.#lastId;
    const { requestTimeoutMs: timeoutMs } = this.#options();
    const ask = request.kind === "ask";
    if (ask) this.#asking++;
    this.#questions.set(id, { pair, ask, done, deadlineMs: nowMs + timeoutMs });
    const bytes = encodeKeyMessage({ ...request, ends: [this.#local, pair.vtep] });
    this.#outputs.push({ kind: "request", id, to: pair.node, bytes, timeoutMs });
  }

  answer(id: number, answer: KeyAnswer): void {
    this.#outputs.push({ kind: "answer", id, bytes: encodeKeyMessage(answer) });
  }

  path(node: NodeId, ready: boolean): void {
    this.#outputs.push({ kind: "path", node, ready });
  }

  /** What was given since the last time. */
  drain(): KeyOutput[] {
    return this.#outputs.splice(0);
  }

  /** The kernel has carried out a step, or refused it. Whose it was. */
  stepped(id: number, ok: boolean, nowMs: number): Pair | undefined {
    const step = this.#steps.get(id);
    assert(step !== undefined, "a kernel step is answered once");
    this.#steps.delete(id);
    step.done(ok, nowMs);
    return step.pair;
  }

  /** Whose question it is; undefined: nobody waits for its answer any more. */
  pairOf(id: number): Pair | undefined {
    return this.#questions.get(id)?.pair;
  }

  /** The question's answer is this, or there is none. */
  end(id: number, answer: KeyAnswer | undefined, nowMs: number): void {
    this.#take(id)?.done(answer, nowMs);
  }

  /** Its questions are ended as if they had no answer. */
  endAll(pair: Pair, nowMs: number): void {
    for (const id of this.#of(pair)) this.end(id, undefined, nowMs);
  }

  /** Its questions are of no interest any more. */
  forgetAll(pair: Pair): void {
    for (const id of this.#of(pair)) this.#take(id);
  }

  /** Questions that were not answered in time are ended; whose they were. */
  expire(nowMs: number): Pair[] {
    const late = [...this.#questions].filter(([, { deadlineMs }]) => deadlineMs <= nowMs);
    for (const [id] of late) this.end(id, undefined, nowMs);
    return late.map(([, { pair }]) => pair);
  }

  /** Infinity: no question is open. */
  nextDeadlineMs(): number {
    const [first] = this.#questions.values();
    return first?.deadlineMs ?? Infinity;
  }

  mayAsk(): boolean {
    return this.#asking < this.#options().asking;
  }

  #step(pair: Pair | undefined, done: StepDone): number {
    const id = ++this.#lastId;
    this.#steps.set(id, { pair, done });
    return id;
  }

  #of(pair: Pair): number[] {
    return [...this.#questions].filter(([, asked]) => asked.pair === pair).map(([id]) => id);
  }

  #take(id: number): Question | undefined {
    const question = this.#questions.get(id);
    if (question === undefined) return undefined;
    this.#questions.delete(id);
    if (question.ask) this.#asking--;
    return question;
  }
}
