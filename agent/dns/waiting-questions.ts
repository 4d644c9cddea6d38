import { Worker } from "node:worker_threads";
import { giveUp, type Patience, serve, STATES } from "./patience.ts";
import { markOf, setMark } from "./transparent.ts";

/**
 * From the end of one agent until the next one serves, containers' questions wait in the sockets that
 * the service manager keeps. That must have an end: a question that has waited too long is asked
 * again by its asker, and must then reach Docker's resolver, not the same queue.
 */

/**
 * From this process's start. musl asks again after 2.5 s, glibc, Go and c-ares later: within that
 * nobody loses anything but time. An agent serves about 0.6 s after its start on a host at rest.
 */
export const PATIENCE_MS = 2000;
/** Starts that ended before they served, without being able to let go (a crash, no memory). */
const FAILED_STARTS = 2;

export interface WaitingQuestions {
  /**
   * The server answers in these sockets now, or decides what else becomes of them: nobody but it
   * lets Docker answer any more. False: Docker answers already, until they are made transparent.
   */
  served(): boolean;
}

/** Lets go of `sockets` when nobody serves them in time, or this process ends before that. */
export function awaitServer(
  sockets: readonly number[],
  patienceMs = PATIENCE_MS - performance.now(),
): WaitingQuestions {
  const state = new Int32Array(new SharedArrayBuffer(4));
  const waiting: Patience = { sockets, state, patienceMs };
  const atExit = (): void => giveUp(waiting);
  process.once("exit", atExit);
  // The count is on the sockets: it ends with them, and no crash comes between both.
  if (sockets.some((fd) => markOf(fd) >= FAILED_STARTS)) giveUp(waiting);
  for (const fd of sockets) setMark(fd, Math.min(markOf(fd) + 1, FAILED_STARTS));
  // A timer of this thread would wait itself: it is busy loading the program.
  if (state[0] === STATES.waiting) {
    const worker = new Worker(new URL("./patience-worker.ts", import.meta.url), {
      workerData: waiting,
    });
    worker.on("error", atExit);
    worker.unref();
  }
  return {
    served() {
      process.off("exit", atExit);
      const inTime = serve(waiting);
      for (const fd of sockets) setMark(fd, 0);
      return inTime;
    },
  };
}
