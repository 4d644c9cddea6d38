import { asFailure, type Failure } from "../errors.ts";

/**
 * How work that is tried again and again went last: what keeps it from being done is a line in `status` and an
 * event, once, however often it is tried.
 */
export class RetriedWork {
  readonly #changed: (failure: Failure | undefined) => void;
  #failure: Failure | undefined;

  /** `changed`: it fails for another reason than before, or for none any more. */
  constructor(changed: (failure: Failure | undefined) => void) {
    this.#changed = changed;
  }

  /** Of the last try; undefined when it succeeded. */
  failure(): Failure | undefined {
    return this.#failure;
  }

  went(failure: Failure | undefined): void {
    const isNews = !sameFailure(this.#failure, failure);
    this.#failure = failure;
    if (isNews) this.#changed(failure);
  }

  /** @throws what `work` throws, when it was noted */
  async through<T>(work: () => Promise<T>): Promise<T> {
    try {
      const done = await work();
      this.went(undefined);
      return done;
    } catch (error) {
      this.went(asFailure(error));
      throw error;
    }
  }
}

function sameFailure(a: Failure | undefined, b: Failure | undefined): boolean {
  return a?.code === b?.code && a?.message === b?.message;
}

/** The next wait after one that did not help: 1, 2, 4 … times the first, `mostMs` at most. */
export function backedOff(waitMs: number, mostMs: number): number {
  return Math.min(waitMs * 2, mostMs);
}
