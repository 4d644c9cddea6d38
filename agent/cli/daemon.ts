import { flushCompileCache } from "node:module";
import { pino } from "pino";
import { giveBackMemory } from "../../shared/node/give-back-memory.ts";
import type { Supervisor } from "../../shared/node/supervisor.ts";
import type { Log } from "../../shared/ports.ts";
import { requireRoot } from "./context.ts";
import { readEnvironment } from "./environment.ts";

/** What both services share: JSON log on stdout (journald keeps it), end on SIGTERM and SIGINT. */

/** By then all modules are loaded and the start is over. */
const STARTED_MS = 5000;

export function daemonLog(name: string): Log {
  const level = readEnvironment(process.env).logLevel;
  const log = pino({ name, level, base: { name } });
  return {
    debug: (fields, message) => log.debug(fields, message),
    info: (fields, message) => log.info(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
  };
}

export async function untilSignal(
  supervisor: Supervisor,
  run: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  requireRoot();
  const stopping = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const)
    process.once(name, () => {
      supervisor.stopping();
      stopping.abort();
    });
  // Kept for the next start: a service ends by signals, not by itself, when Node would write it.
  setTimeout(() => {
    flushCompileCache();
    giveBackMemory();
  }, STARTED_MS).unref();
  await run(stopping.signal);
  // Nothing that is still open may keep a service that was told to end.
  process.exit();
}
