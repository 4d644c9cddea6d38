const RESULTS = ["ok", "refused", "failed"] as const;
type Result = (typeof RESULTS)[number];

export interface RequestCount {
  readonly kind: string;
  readonly result: Result;
  readonly count: number;
}

/** What hosts asked since the start, and what became of it. */
export class RequestCounts {
  readonly #counts = new Map<string, Record<Result, number>>();

  /** `kind` is one of the known ones: the table is bounded by them. */
  count(kind: string, result: Result): void {
    let counts = this.#counts.get(kind);
    if (counts === undefined) this.#counts.set(kind, (counts = { ok: 0, refused: 0, failed: 0 }));
    counts[result]++;
  }

  all(): RequestCount[] {
    return [...this.#counts].flatMap(([kind, counts]) =>
      RESULTS.map((result) => ({ kind, result, count: counts[result] })),
    );
  }
}
