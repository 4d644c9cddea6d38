import { LinuxNameServer } from "../../../agent/names/server/linux-name-server.ts";
import type { Sandbox, TableChange } from "../../../agent/names/server/port.ts";
import { silentLog } from "../../../shared/ports.ts";

/** A process of its own that serves names, to be killed; told over IPC what. */

export interface Serve {
  readonly changes: readonly TableChange[];
  readonly sandboxes: readonly Sandbox[];
  /** Descriptors that this process was started with. */
  readonly adopted: readonly (readonly [string, number])[];
}

async function serve({ changes, sandboxes, adopted }: Serve): Promise<void> {
  const server = new LinuxNameServer({ adopted: new Map(adopted) }, silentLog);
  server.change(changes);
  // Asked for before it is up: it has the adopted sockets from its first moment.
  await Promise.all([server.start(), ...sandboxes.map((sandbox) => server.serve(sandbox))]);
  process.send?.(await server.counters());
}

process.once("message", (what: Serve) => void serve(what));
process.on("disconnect", () => process.exit());
