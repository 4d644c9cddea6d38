import { Histogram, type HistogramCounts } from "../../../shared/histogram.ts";

/** What became of one kind of call. */
export interface CallCounts {
  /** Calls of that name. */
  readonly asked: number;
  /** Read, and handed on. */
  readonly decoded: number;
  /** Answered with an error: not read, against the rules, or failed. */
  readonly refused: number;
  /** Ended after their deadline; what they did was taken back. */
  readonly late: number;
}

/** Docker waits for each of these. */
export interface CallStatus extends CallCounts {
  /** Of those that were answered. Absent of an agent of before. */
  readonly took?: HistogramCounts;
}

/** The last answer that was an error. */
export interface Refusal {
  /** Wall clock, ms since 1970. */
  readonly atMs: number;
  readonly message: string;
  readonly next?: string;
}

/** What Docker asked of this host, by call, and what on the socket was no call at all. */
export interface PluginCounts {
  readonly calls: Readonly<Record<string, CallStatus>>;
  readonly unknown: {
    /** A name that no call has. */
    readonly names: number;
    /** Not a POST. */
    readonly methods: number;
    /** Not HTTP. */
    readonly garbage: number;
  };
  /** By call, and under "unknown" of what was no call; for all time, however long ago. */
  readonly lastRefused: Readonly<Record<string, Refusal>>;
}

const UNKNOWN = "unknown";

export class PluginCounters {
  readonly #calls = new Map<string, Record<keyof CallCounts, number>>();
  readonly #took = new Map<string, Histogram>();
  readonly #unknown = { names: 0, methods: 0, garbage: 0 };
  readonly #lastRefused = new Map<string, Refusal>();
  readonly #wallMs: () => number;

  constructor(wallMs: () => number) {
    this.#wallMs = wallMs;
  }

  /** `name` is one of the known calls: the table is bounded by them. */
  count(name: string, what: keyof CallCounts): void {
    let counts = this.#calls.get(name);
    if (counts === undefined)
      this.#calls.set(name, (counts = { asked: 0, decoded: 0, refused: 0, late: 0 }));
    counts[what]++;
  }

  /** From the request's head to its answer. */
  took(name: string, ms: number): void {
    let took = this.#took.get(name);
    if (took === undefined) this.#took.set(name, (took = new Histogram()));
    took.add(ms);
  }

  refused(name: string, failure: Pick<Refusal, "message" | "next">): void {
    this.count(name, "refused");
    this.#refusedLast(name, failure);
  }

  unknown(what: keyof PluginCounts["unknown"], failure: Pick<Refusal, "message" | "next">): void {
    this.#unknown[what]++;
    this.#refusedLast(UNKNOWN, failure);
  }

  counts(): PluginCounts {
    const calls = [...this.#calls].toSorted(([a], [b]) => (a < b ? -1 : 1));
    return {
      calls: Object.fromEntries(
        calls.map(([name, counts]) => {
          const took = this.#took.get(name)?.counts();
          return [name, took === undefined ? { ...counts } : { ...counts, took }];
        }),
      ),
      unknown: { ...this.#unknown },
      lastRefused: Object.fromEntries(this.#lastRefused),
    };
  }

  #refusedLast(name: string, { message, next }: Pick<Refusal, "message" | "next">): void {
    const atMs = this.#wallMs();
    this.#lastRefused.set(name, { atMs, message, ...(next === undefined ? {} : { next }) });
  }
}
