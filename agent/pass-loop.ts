import { setTimeout as delay } from "node:timers/promises";
import { asFailure, type Failure } from "../shared/errors.ts";

const COALESCE_MS = 5;
const RETRY_MS = 500;

type Waiting = ((failure: Failure | undefined) => void)[];

/**
 * Level-triggered work on one thing: events only mark it dirty; one pass at a time does what is to be done
 * now, at once after the first event, coalesced after further ones, and again until it succeeds.
 */
export class PassLoop {
  readonly #pass: () => Promise<void>;
  readonly #changed: (failure: Failure | undefined) => void;
  /** Who waits for the pass that is to come, and for the one under way. */
  #next: Waiting = [];
  #current: Waiting = [];
  #dirty = false;
  #passing = false;
  #running = false;
  #stopped = false;
  #loop: Promise<void> | undefined;
  #failure: Failure | undefined;

  /** `changed`: a pass failed, or succeeded after one that did. */
  constructor(pass: () => Promise<void>, changed: (failure: Failure | undefined) => void) {
    this.#pass = pass;
    this.#changed = changed;
  }

  dirty(): void {
    if (this.#stopped) return;
    this.#dirty = true;
    if (this.#running) return;
    this.#running = true;
    this.#loop = this.#run();
  }

  /** What was dirty when it was asked was tried: the outcome of that pass. */
  async tried(): Promise<Failure | undefined> {
    if (!this.#dirty && !this.#passing) return this.#failure;
    return new Promise((resolve) => (this.#dirty ? this.#next : this.#current).push(resolve));
  }

  /** What was dirty when it was asked is done; or the loop was stopped. */
  async settled(): Promise<void> {
    while (!this.#stopped && (await this.tried()) !== undefined);
  }

  /** Of the last pass; undefined when it succeeded. */
  failure(): Failure | undefined {
    return this.#failure;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (this.#dirty && !this.#stopped) {
      this.#dirty = false;
      this.#passing = true;
      this.#current = this.#next;
      this.#next = [];
      const failure = await this.#pass().then(() => undefined, asFailure);
      this.#passing = false;
      this.#ended(failure);
      if (failure !== undefined) this.#dirty = true;
      await delay(failure === undefined ? COALESCE_MS : RETRY_MS);
    }
    answer(this.#next, this.#failure);
    this.#next = [];
    this.#running = false;
  }

  #ended(failure: Failure | undefined): void {
    const same = this.#failure === failure;
    this.#failure = failure;
    if (!same) this.#changed(failure);
    answer(this.#current, failure);
    this.#current = [];
  }
}

function answer(waiting: Waiting, failure: Failure | undefined): void {
  for (const resolve of waiting) resolve(failure);
}
