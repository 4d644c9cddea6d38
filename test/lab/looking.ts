import type { Asking } from "../support/asking.ts";

const EVERY_MS = 50;
/** Shorter than a libc waits (5 s): what is answered by then no program misses, and a lost packet shows. */
const TIMEOUT_MS = 4500;

interface Look {
  readonly atMs: number;
  readonly found: boolean;
}

/** A name is looked up every 50 ms, whether or not the last one was answered yet, until it is stopped. */
export class Looking {
  readonly #looks: Look[] = [];
  readonly #under = new Set<Promise<void>>();
  readonly #timer: NodeJS.Timeout;

  /** Found: the answer has exactly these addresses. */
  constructor(asking: Asking, name: string, addresses: readonly string[]) {
    const wanted = addresses.toSorted().join(" ");
    this.#timer = setInterval(() => {
      const atMs = performance.now();
      const look = asking.addresses(name, { timeoutMs: TIMEOUT_MS }).then(
        (found) => void this.#looks.push({ atMs, found: found.join(" ") === wanted }),
        () => void this.#looks.push({ atMs, found: false }),
      );
      this.#under.add(look);
      void look.finally(() => this.#under.delete(look));
    }, EVERY_MS);
  }

  /** When the look-ups that did not find it were made, of those since then; milliseconds from then. */
  missedSince(sinceMs: number): number[] {
    return this.#looks
      .filter(({ atMs, found }) => atMs >= sinceMs && !found)
      .map(({ atMs }) => Math.round(atMs - sinceMs));
  }

  /** How many were made since then and answered, well or not. */
  since(sinceMs: number): number {
    return this.#looks.filter(({ atMs }) => atMs >= sinceMs).length;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#under);
  }
}
