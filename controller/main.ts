import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Supervisor } from "../shared/node/supervisor.ts";
import { startWatchdog } from "../shared/node/watchdog.ts";
import type { Log } from "../shared/ports.ts";
import { sha256, systemClock, systemRandom } from "../shared/node/system.ts";
import { UnixHttpServer } from "../shared/node/unix-http.ts";
import { adminRoutes } from "./admin-api.ts";
import { Controller } from "./controller.ts";
import { controllerFiles, hasCluster, readKeys } from "./init.ts";
import { SqliteStore } from "./store/sqlite-store.ts";
import { ControlServer } from "./wire/server.ts";

export interface ControllerConfig {
  readonly dataDirectory: string;
  readonly runDirectory: string;
}

const WAIT_MS = 100;
const KEY_CHECK_MS = 60_000;

/** The controller of this host, from when `overlay-ts init` made a cluster until `signal` aborts. */
export async function runController(
  { dataDirectory, runDirectory }: ControllerConfig,
  { log, supervisor }: { readonly log: Log; readonly supervisor: Supervisor },
  signal: AbortSignal,
): Promise<void> {
  const files = controllerFiles(dataDirectory);
  const endWatch = startWatchdog({ supervisor, log, clock: systemClock, owed: () => ({}) });
  signal.addEventListener("abort", endWatch, { once: true });
  if (!hasCluster(files)) {
    log.info({}, "no cluster here yet: waiting for `overlay-ts init`");
    supervisor.status("no cluster yet");
    supervisor.ready();
  }
  while (!hasCluster(files) && !signal.aborted) await delay(WAIT_MS);
  if (signal.aborted) return;
  const keys = await readKeys(files);
  const store = new SqliteStore(files.database);
  const controller = new Controller(keys, {
    store,
    log,
    clock: systemClock,
    random: systemRandom,
    hasher: sha256,
  });
  const state = await controller.state();
  const { address } = state.controller;
  const port = state.settings.ports.controller;
  const server = new ControlServer({ seed: keys.peer.seed, address, port }, controller, log);
  await server.start();
  const local = new UnixHttpServer(join(runDirectory, "controller.sock"), adminRoutes(controller));
  await local.start();
  const keyCheck = setInterval(() => {
    controller
      .rotateDueKeys()
      .catch((error: unknown) => log.error({ error }, "old gossip keys stay in use"));
  }, KEY_CHECK_MS);
  log.info({ cluster: state.cluster, revision: state.revision, address, port }, "controller ready");
  supervisor.status(`cluster ${state.cluster}`);
  supervisor.ready();
  if (!signal.aborted)
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  clearInterval(keyCheck);
  await local.stop();
  await server.stop();
  store.close();
}
