import { SharedCounters } from "../../shared/node/shared-counters.ts";

/** What is counted, by what happened. */
const COUNTERS = [
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

export class Counters extends SharedCounters<(typeof COUNTERS)[number]> {
  constructor(memory?: SharedArrayBuffer) {
    super(COUNTERS, memory);
  }
}
