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

/** What Docker asked of this host, by call, and what on the socket was no call at all. */
export interface PluginCounts {
  readonly calls: Readonly<Record<string, CallCounts>>;
  readonly unknown: {
    /** A name that no call has. */
    readonly names: number;
    /** Not a POST. */
    readonly methods: number;
    /** Not HTTP. */
    readonly garbage: number;
  };
}

export class PluginCounters {
  readonly #calls = new Map<string, Record<keyof CallCounts, number>>();
  readonly #unknown = { names: 0, methods: 0, garbage: 0 };

  /** `name` is one of the known calls: the table is bounded by them. */
  count(name: string, what: keyof CallCounts): void {
    let counts = this.#calls.get(name);
    if (counts === undefined)
      this.#calls.set(name, (counts = { asked: 0, decoded: 0, refused: 0, late: 0 }));
    counts[what]++;
  }

  countUnknown(what: keyof PluginCounts["unknown"]): void {
    this.#unknown[what]++;
  }

  counts(): PluginCounts {
    const calls = [...this.#calls].toSorted(([a], [b]) => (a < b ? -1 : 1));
    return {
      calls: Object.fromEntries(calls.map(([name, counts]) => [name, { ...counts }])),
      unknown: { ...this.#unknown },
    };
  }
}
