/** What is counted, by what happened. Kept in memory that both threads see: it outlives a worker. */
export const COUNTERS = [
  /** Whole: where there was none, or another. */
  "tablesWritten",
  /** By what differed. */
  "tablesChanged",
  /** An agent before this one left it, and it was right. */
  "tablesAdopted",
  /** Somebody changed it, or took it away. */
  "tablesPutBack",
  "tablesFailed",
  /** To members that left: their next packet goes to another, or, of an endpoint that is gone, they are reset. */
  "connectionsMoved",
  "clientsGone",
  "namespacesGivenUp",
  "workersEnded",
] as const;

export type Counter = (typeof COUNTERS)[number];

/** One writer a counter. */
export class Counters {
  readonly memory: SharedArrayBuffer;
  readonly #values: Float64Array;

  constructor(memory = new SharedArrayBuffer(COUNTERS.length * 8)) {
    this.memory = memory;
    this.#values = new Float64Array(memory);
  }

  count(name: Counter, by = 1): void {
    const place = COUNTERS.indexOf(name);
    this.#values[place] = this.#values[place]! + by;
  }

  read(): Record<Counter, number> {
    const entries = COUNTERS.map((name, place) => [name, this.#values[place]]);
    return Object.fromEntries(entries) as Record<Counter, number>;
  }
}
