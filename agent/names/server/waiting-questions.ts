import { Worker } from "node:worker_threads";
import { giveUp, type Patience, STATES, takeOver } from "./patience.ts";
import { letDockerAnswer, markOf, setMark } from "./transparent.ts";
import { threadFile } from "../../../shared/node/thread-file.ts";

/**
 * From the end of one agent until the next one serves, containers' questions wait in the sockets that
 * the service manager keeps. That must have an end: a question that has waited too long is asked
 * again by its asker, and must then reach Docker's resolver, not the same queue.
 */

/**
 * From this process's start. musl asks again after 2.5 s, glibc, Go and c-ares later: within that
 * nobody loses anything but time. An agent serves 0.6 s after its start on a machine at rest.
 */
export const PATIENCE_MS = 2000;
/** Starts that ended before they served without being able to let go: a crash, no memory. */
const FAILED_STARTS = 2;

export interface WaitingQuestions {
  /**
   * From now on it is the name server that lets Docker answer, or does not. Returns for how many
   * milliseconds questions may still wait; 0: Docker answers already, in each sandbox until its
   * sockets are made transparent again.
   */
  takeOver(): number;
  /** The agent has come as far as to serve: this start is no failed one. */
  served(): void;
}

/** Lets Docker answer when nobody takes `sockets` over in time, or this process ends before. */
export function awaitServer(sockets: readonly number[], patienceMs: number): WaitingQuestions {
  const state = new Int32Array(new SharedArrayBuffer(4));
  const remainingMs = (): number => Math.max(0, patienceMs - performance.now());
  const patience: Patience = { sockets, state, patienceMs: remainingMs() };
  // Also after somebody took over, until the end of the start is reached.
  const atExit = (): void => sockets.forEach(letDockerAnswer);
  process.once("exit", atExit);
  // The count is on the sockets: it ends with them, and no crash comes between both.
  if (sockets.some((fd) => markOf(fd) >= FAILED_STARTS)) giveUp(patience);
  for (const fd of sockets) setMark(fd, Math.min(markOf(fd) + 1, FAILED_STARTS));
  // A timer of this thread would have to wait itself: it is busy loading the program.
  if (state[0] === STATES.waiting) {
    const worker = new Worker(threadFile("patience-worker", import.meta.url), {
      workerData: patience,
    });
    worker.on("error", () => giveUp(patience));
    worker.unref();
  }
  return {
    takeOver: () => (takeOver(patience) ? remainingMs() : 0),
    served() {
      process.off("exit", atExit);
      for (const fd of sockets) setMark(fd, 0);
    },
  };
}
