import { type Owed, overdue } from "../overdue.ts";
import type { Clock, Log } from "../ports.ts";
import type { Supervisor } from "./supervisor.ts";

/** A feeding may come late by two of these before the manager acts. */
const FEEDINGS_PER_LIMIT = 3;

export interface WatchdogModules {
  readonly supervisor: Pick<Supervisor, "alive" | "watchdogMs">;
  readonly clock: Pick<Clock, "nowMs">;
  readonly owed: () => Owed;
  readonly log: Log;
}

/**
 * Says "alive" while all parts make progress: this event loop, because it is its timer that says
 * so, and those of `owed`. One that stalls ends it, and the manager starts the service again.
 */
export function startWatchdog({ supervisor, clock, owed, log }: WatchdogModules): () => void {
  const limitMs = supervisor.watchdogMs;
  if (limitMs === undefined) return () => {};
  let before: readonly string[] = [];
  const look = (): void => {
    const stalled = overdue(owed(), clock.nowMs(), limitMs);
    if (stalled.length === 0) supervisor.alive();
    else if (before.length === 0) log.error({ stalled }, "no progress: the watchdog is not fed");
    before = stalled;
  };
  look();
  const timer = setInterval(look, limitMs / FEEDINGS_PER_LIMIT);
  return () => clearInterval(timer);
}
