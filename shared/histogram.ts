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
  readonly #upToMs: readonly number[];
  readonly #counts: number[];
  #sumMs = 0;

  /** @param upToMs rising */
  constructor(upToMs: readonly number[] = UP_TO_MS) {
    this.#upToMs = upToMs;
    this.#counts = Array.from({ length: upToMs.length + 1 }, () => 0);
  }

  add(ms: number): void {
    const bucket = this.#upToMs.findIndex((bound) => ms <= bound);
    const at = bucket < 0 ? this.#upToMs.length : bucket;
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
    this.#sumMs += ms;
  }

  counts(): HistogramCounts {
    return { upToMs: this.#upToMs, counts: [...this.#counts], sumMs: Math.round(this.#sumMs) };
  }
}

export function countOf({ counts }: HistogramCounts): number {
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Of the same buckets; undefined: of nothing. */
export function summed(all: readonly HistogramCounts[]): HistogramCounts | undefined {
  const [first, ...rest] = all;
  if (first === undefined) return undefined;
  return rest.reduce(
    (sum, { counts, sumMs }) => ({
      upToMs: sum.upToMs,
      counts: sum.counts.map((count, i) => count + (counts[i] ?? 0)),
      sumMs: sum.sumMs + sumMs,
    }),
    first,
  );
}
