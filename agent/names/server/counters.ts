import { SharedCounters } from "../../../shared/node/shared-counters.ts";

/** What is counted, by what happened. */
const COUNTERS = [
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

export class Counters extends SharedCounters<(typeof COUNTERS)[number]> {
  constructor(memory?: SharedArrayBuffer) {
    super(COUNTERS, memory);
  }
}
