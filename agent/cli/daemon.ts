import { flushCompileCache } from "node:module";
import { giveBackMemory } from "../../shared/node/give-back-memory.ts";
import type { Supervisor } from "../../shared/node/supervisor.ts";
import { requireRoot } from "./context.ts";

/** What both services share: they end on SIGTERM and SIGINT. */

/** By then all modules are loaded and the start is over. */
const STARTED_MS = 5000;

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
