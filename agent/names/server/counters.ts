/** What is counted, by what happened. Kept in memory that both threads see: it outlives a worker. */
export const COUNTERS = [
  /** Answered here, with a record or more. */
  "answered",
  /** Answered here: the name is known, and has no such record or nobody who may answer. */
  "nodata",
  /** Handed on to Docker's resolver, over UDP by the client's own packet. */
  "forwarded",
  "forwardedTcp",
  /** Asked of Docker's resolver by ourselves: networks without a way out. */
  "relayed",
  /** What Docker's resolver refused or did not answer there, said to be no name. */
  "notThere",
  /** Waited until a network was known in full. */
  "held",
  "tcpConnections",
  "droppedFlood",
  "droppedHeld",
  "droppedRelay",
  "droppedSend",
  "droppedTcpConnections",
  "droppedTcpQuestions",
  "gatesMade",
  "gatesAdopted",
  "gatesPutBack",
  "gatesFailed",
  "sandboxesGone",
  "namespacesGivenUp",
  "watchdogLetGo",
  "workersEnded",
  "adoptedReleased",
] as const;

export type Counter = (typeof COUNTERS)[number];

const PLACES = new Map<Counter, number>(COUNTERS.map((name, place) => [name, place]));

/** One writer a counter. */
export class Counters {
  readonly memory: SharedArrayBuffer;
  readonly #values: Float64Array;

  constructor(memory = new SharedArrayBuffer(COUNTERS.length * 8)) {
    this.memory = memory;
    this.#values = new Float64Array(memory);
  }

  count(name: Counter, by = 1): void {
    const place = PLACES.get(name)!;
    this.#values[place] = this.#values[place]! + by;
  }

  read(): Record<Counter, number> {
    return Object.fromEntries(COUNTERS.map((name, place) => [name, this.#values[place]])) as Record<
      Counter,
      number
    >;
  }
}
