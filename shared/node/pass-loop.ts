import { asFailure, type Failure, OverlayError } from "../errors.ts";
import type { Timers } from "../ports.ts";
import { backedOff, RetriedWork } from "./retried-work.ts";
import { systemTimers } from "./system.ts";

export interface PassLoopTimes {
  /** What follows a pass within this time shares the next. */
  readonly coalesceMs: number;
  /** After the first pass that failed, and at most. */
  readonly retryFirstMs: number;
  readonly retryMostMs: number;
}

const DEFAULT_TIMES: PassLoopTimes = { coalesceMs: 5, retryFirstMs: 500, retryMostMs: 4000 };

/** How a pass went that threw nothing. */
export interface Passed {
  /** Why something is left to do: told like a failure, and not waited for longer and longer. */
  readonly failure: Failure | undefined;
  /** Another pass is due after so long without any event. */
  readonly againInMs: number;
}

/** Waits, and events by which of them they end: an event ends those up to its own. */
const [NOTHING, REST, BACKOFF, COALESCING] = [0, 1, 2, 3] as const;
type Wait = typeof REST | typeof BACKOFF | typeof COALESCING;

type Outcome = { readonly error: unknown } | undefined;
type Waiting = ((outcome: Outcome) => void)[];

/**
 * Level-triggered work on one thing: events only mark it dirty; one pass at a time does what is to be done
 * now, at once after the first event, coalesced after further ones, and again until it succeeds.
 */
export class PassLoop {
  readonly #pass: () => Promise<Passed | void>;
  readonly #times: PassLoopTimes;
  readonly #timers: Timers;
  readonly #retried: RetriedWork;
  /** Who waits for the pass that is to come, and for the one under way. */
  #next: Waiting = [];
  #current: Waiting = [];
  /** By the events since the last pass began. */
  #asked: Wait | typeof NOTHING = NOTHING;
  #wait: { readonly kind: Wait; readonly end: () => void } | undefined;
  #passSinceMs: number | undefined;
  #isRunning = false;
  #loop: Promise<void> | undefined;
  #stopped = false;

  /** `changed`: passes fail for another reason than before, or succeed again. */
  constructor(
    pass: () => Promise<Passed | void>,
    changed: (failure: Failure | undefined) => void,
    times: PassLoopTimes = DEFAULT_TIMES,
    timers: Timers = systemTimers,
  ) {
    this.#pass = pass;
    this.#times = times;
    this.#timers = timers;
    this.#retried = new RetriedWork(changed);
  }

  /** A pass is to come; after one that failed, in its time. */
  dirty(): void {
    this.#ask(REST);
  }

  /** What kept passes from succeeding may be gone: the wait after a failure ends. */
  hurry(): void {
    this.#ask(BACKOFF);
  }

  /** Ends with a pass that begins now, or after the one under way. @throws what it failed with, INTERNAL when stopped */
  done(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#stopped) return reject(stopping());
      this.#next.push((outcome) => (outcome === undefined ? resolve() : reject(outcome.error)));
      this.#ask(COALESCING);
    });
  }

  /** What was dirty when it was asked was tried: the outcome of that pass. */
  async tried(): Promise<Failure | undefined> {
    const isDirty = this.#asked !== NOTHING && !this.#stopped;
    if (!isDirty && this.#passSinceMs === undefined) return this.failure();
    const outcome = await new Promise<Outcome>((resolve) =>
      (isDirty ? this.#next : this.#current).push(resolve),
    );
    return outcome && asFailure(outcome.error);
  }

  /** What was dirty when it was asked is done; or the loop was stopped. */
  async settled(): Promise<void> {
    while (!this.#stopped && (await this.tried()) !== undefined);
  }

  /** Of the last pass; undefined when it succeeded. */
  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  /** A pass is to come that looks at what is so then. */
  isDue(): boolean {
    return this.#asked !== NOTHING;
  }

  /** Since when a pass is under way (performance.now). */
  passSinceMs(): number | undefined {
    return this.#passSinceMs;
  }

  /** Ends after the pass under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wait?.end();
    await this.#loop;
  }

  #ask(ends: Wait): void {
    if (this.#stopped) return;
    this.#asked = ends > this.#asked ? ends : this.#asked;
    if (this.#wait !== undefined && this.#wait.kind <= ends) this.#wait.end();
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#loop = this.#run();
  }

  async #run(): Promise<void> {
    let retryMs = this.#times.retryFirstMs;
    while (this.#asked !== NOTHING && !this.#stopped) {
      this.#asked = NOTHING;
      [this.#current, this.#next] = [this.#next, []];
      this.#passSinceMs = performance.now();
      const ended = await this.#pass().then(
        (passed) => ({ passed }),
        (error: unknown) => ({ error }),
      );
      this.#passSinceMs = undefined;
      if ("error" in ended) {
        this.#tell(asFailure(ended.error), ended);
        if (this.#asked === NOTHING) this.#asked = REST;
        await this.#unlessAsked(BACKOFF, retryMs);
        retryMs = backedOff(retryMs, this.#times.retryMostMs);
      } else {
        this.#tell(ended.passed?.failure, undefined);
        retryMs = this.#times.retryFirstMs;
        await this.#unlessAsked(COALESCING, this.#times.coalesceMs);
        if (ended.passed === undefined) continue;
        await this.#unlessAsked(REST, ended.passed.againInMs);
        if (this.#asked === NOTHING) this.#asked = REST;
      }
    }
    // In the same breath as the last look at what was asked: who comes after it starts another loop.
    this.#isRunning = false;
    for (const answer of this.#next.splice(0)) answer({ error: stopping() });
  }

  #tell(failure: Failure | undefined, outcome: Outcome): void {
    this.#retried.went(failure);
    for (const answer of this.#current.splice(0)) answer(outcome);
  }

  async #unlessAsked(kind: Wait, ms: number): Promise<void> {
    if (this.#asked >= kind || this.#stopped) return;
    await new Promise<void>((resolve) => {
      const cancel = this.#timers.after(ms, resolve);
      const end = (): void => {
        cancel();
        resolve();
      };
      this.#wait = { kind, end };
    });
    this.#wait = undefined;
  }
}

function stopping(): OverlayError {
  return new OverlayError({ code: "INTERNAL", message: "the agent is stopping" });
}
