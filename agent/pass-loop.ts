import { setTimeout as delay } from "node:timers/promises";
import { asFailure, type Failure } from "../shared/errors.ts";

const COALESCE_MS = 5;
const RETRY_MS = 500;

/**
 * Level-triggered work on one thing: events only mark it dirty; one pass at a time does what is to be done
 * now, at once after the first event, coalesced after further ones, and again until it succeeds.
 */
export class PassLoop {
  readonly #pass: () => Promise<void>;
  readonly #changed: (failure: Failure | undefined) => void;
  readonly #waiting: ((failure: Failure | undefined) => void)[] = [];
  #dirty = false;
  #passing = false;
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
    this.#loop ??= this.#run();
  }

  /** What was dirty when it was asked was tried: the outcome of that pass. */
  async tried(): Promise<Failure | undefined> {
    if (!this.#dirty && !this.#passing) return this.#failure;
    return new Promise((resolve) => this.#waiting.push(resolve));
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
      const failure = await this.#pass().then(() => undefined, asFailure);
      this.#passing = false;
      this.#ended(failure);
      if (failure !== undefined) this.#dirty = true;
      await delay(failure === undefined ? COALESCE_MS : RETRY_MS);
    }
    this.#answer(this.#failure);
    this.#loop = undefined;
  }

  #ended(failure: Failure | undefined): void {
    const same = this.#failure === failure;
    this.#failure = failure;
    if (!same) this.#changed(failure);
    // A change that came during this pass is in the next one.
    if (!this.#dirty) this.#answer(failure);
  }

  #answer(failure: Failure | undefined): void {
    for (const resolve of this.#waiting.splice(0)) resolve(failure);
  }
}
