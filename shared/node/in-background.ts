import type { Log } from "../ports.ts";

/** Work that nobody waits for, and that is done again with the next round: a failure is logged as `message`. */
export function inBackground(work: Promise<unknown>, log: Log, message: string): void {
  work.catch((error: unknown) => log.warn({ err: error }, message));
}
