import { asFailure, type Failure } from "../../shared/errors.ts";
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
