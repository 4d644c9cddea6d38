import { asFailure, type Failure } from "../../shared/errors.ts";
import { backedOff } from "../../shared/node/retried-work.ts";
import type { Log } from "../../shared/ports.ts";

/** What a pass does on the engine, each by itself: one network that Docker refuses must not keep the others away. */
export class Steps {
  readonly #log: Log;
  readonly #problems: Failure[] = [];

  constructor(log: Log) {
    this.#log = log;
  }

  /** @returns whether it was done */
  async do(what: string, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      this.#log.info({ what }, "engine updated to match the cluster");
      return true;
    } catch (error) {
      const failure = asFailure(error);
      this.#problems.push({ ...failure, message: `${what}: ${failure.message}` });
      return false;
    }
  }

  /** What could not be done, and what to do about it. */
  problems(): readonly Failure[] {
    return this.#problems;
  }
}

/** When steps that failed are tried again: later and later while the same is refused. */
export class StepRetry {
  readonly #firstMs: number;
  readonly #mostMs: number;
  #said = "";
  #waitMs: number;

  constructor(firstMs: number, mostMs: number) {
    this.#firstMs = firstMs;
    this.#mostMs = mostMs;
    this.#waitMs = firstMs;
  }

  /** @returns the time until the next try */
  after(problems: readonly Failure[]): number {
    const said = problems.map(({ message }) => message).join("\n");
    // Of a controller that is back no event says so.
    const isAway = problems.some(({ code }) => code === "UNREACHABLE" || code === "TIMEOUT");
    const isSame = !isAway && said === this.#said;
    this.#waitMs = isSame ? backedOff(this.#waitMs, this.#mostMs) : this.#firstMs;
    this.#said = said;
    return this.#waitMs;
  }
}
