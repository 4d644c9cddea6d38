/** How often something took how long. Counts are of each bucket alone, not of those below. */
export interface HistogramCounts {
  /** Upper bounds of the buckets, in milliseconds, inclusive; what took longer is in one more. */
  readonly upToMs: readonly number[];
  readonly counts: readonly number[];
  readonly sumMs: number;
}

/** From what nobody waits for to what a person notices. */
const UP_TO_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

export class Histogram {
  readonly #counts: number[] = Array.from({ length: UP_TO_MS.length + 1 }, () => 0);
  #sumMs = 0;

  add(ms: number): void {
    const bucket = UP_TO_MS.findIndex((bound) => ms <= bound);
    const at = bucket < 0 ? UP_TO_MS.length : bucket;
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
    this.#sumMs += ms;
  }

  counts(): HistogramCounts {
    return { upToMs: UP_TO_MS, counts: [...this.#counts], sumMs: Math.round(this.#sumMs) };
  }
}
