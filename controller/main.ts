import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ProcessLock } from "../shared/node/process-lock.ts";
import type { Supervisor } from "../shared/node/supervisor.ts";
import { startWatchdog } from "../shared/node/watchdog.ts";
import type { Log } from "../shared/ports.ts";
import { sha256, systemClock, systemRandom } from "../shared/node/system.ts";
import type { SignedState } from "../shared/cluster-state.ts";
import { asFailure } from "../shared/errors.ts";
import { hasAddress } from "../shared/node/own-address.ts";
import { callUnix, UnixHttpServer } from "../shared/node/unix-http.ts";
import { adminRoutes } from "./admin-api.ts";
import { Controller } from "./controller.ts";
import {
  backedUpAtMs,
  type ControllerFiles,
  controllerFiles,
  hasCluster,
  readKeys,
} from "./files.ts";
import { Listening } from "./listening.ts";
import { controllerLock } from "./lock-file.ts";
import { SqliteStore } from "./store/sqlite-store.ts";
import { ControlServer } from "./wire/server.ts";

export interface ControllerConfig {
  readonly dataDirectory: string;
  readonly runDirectory: string;
}

/** What a service gets from who started it. */
interface ControllerService {
  readonly log: Log;
  readonly supervisor: Supervisor;
}

const WAIT_MS = 100;
const KEY_CHECK_MS = 60_000;
/** Of looking at what this host's agent has heard. */
const LOOK_MS = 5000;

/** The controller of this host, from when `overlay-ts init` made a cluster until `signal` aborts. */
export async function runController(
  { dataDirectory, runDirectory }: ControllerConfig,
  { log, supervisor }: ControllerService,
  signal: AbortSignal,
): Promise<void> {
  const files = controllerFiles(dataDirectory);
  const endWatch = startWatchdog({ supervisor, log, clock: systemClock, owed: () => ({}) });
  signal.addEventListener("abort", endWatch, { once: true });
  await untilCluster(files, { log, supervisor }, signal);
  if (signal.aborted) return;
  const keys = await readKeys(files);
  const store = new SqliteStore(files.database);
  store.migrate();
  const controller = new Controller(keys, {
    store,
    log,
    clock: systemClock,
    random: systemRandom,
    hasher: sha256,
  });
  const look = (): Promise<void> => lookAtAgent(controller, runDirectory, log);
  // Before the first request: a controller whose data are old decides nothing.
  await look();
  const state = await controller.state();
  const { address } = state.controller;
  const port = state.settings.ports.controller;
  const { seed } = keys.peer;
  const listening = new Listening({
    state: () => controller.state(),
    make: (address, port) => new ControlServer({ seed, address, port }, controller, log),
    has: hasAddress,
  });
  await listening.follow();
  const failing = onceEach(log);
  const follow = (): Promise<void> =>
    failing(
      "the controller could not begin to listen where the state says; tried again",
      listening.follow(),
    );
  controller.onState(() => void follow());
  const local = localServer(runDirectory, files, controller, { look, listening });
  // As long as the socket is to be there: who finds the one without the other knows that it was taken away.
  const lock = await ProcessLock.ofService(
    controllerLock(dataDirectory),
    "the controller",
    "overlay-ts-controller",
  );
  await local.start();
  const keyCheck = setInterval(() => {
    void failing(
      "old gossip keys stay in use",
      look().then(() => controller.rotateDueKeys()),
    );
  }, KEY_CHECK_MS);
  log.info({ cluster: state.cluster, revision: state.revision, address, port }, "controller ready");
  const standing = async (): Promise<string> =>
    ((await controller.problem()) ?? listening.failure())?.message ?? `cluster ${state.cluster}`;
  supervisor.status(await standing());
  supervisor.ready();
  const looking = setInterval(() => {
    const stands = look().then(follow).then(standing);
    stands.then(
      (text) => supervisor.status(text),
      (error: unknown) => supervisor.status(asFailure(error).message),
    );
    void failing("the controller cannot read its data", stands);
  }, LOOK_MS);
  if (!signal.aborted)
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  clearInterval(keyCheck);
  clearInterval(looking);
  lock.release();
  await local.stop();
  await listening.stop();
  store.close();
}

/** What commands ask, and the agent beside it. */
function localServer(
  runDirectory: string,
  files: ControllerFiles,
  controller: Controller,
  { look, listening }: { readonly look: () => Promise<void>; readonly listening: Listening },
): UnixHttpServer {
  const routes = adminRoutes(
    controller,
    look,
    () => listening.failure(),
    () => backedUpAtMs(files),
  );
  return new UnixHttpServer(join(runDirectory, "controller.sock"), routes);
}

/** A controller that waits for `init` is ready: it does what it can. */
async function untilCluster(
  files: ControllerFiles,
  { log, supervisor }: ControllerService,
  signal: AbortSignal,
): Promise<void> {
  if (!hasCluster(files)) {
    log.info({}, "no cluster here yet: waiting for `overlay-ts init`");
    supervisor.status("no cluster yet");
    supervisor.ready();
  }
  while (!hasCluster(files) && !signal.aborted) await delay(WAIT_MS);
}

/** What is tried again and again is logged when it begins to fail, and when it fails for another reason. */
function onceEach(log: Log): (what: string, work: Promise<unknown>) => Promise<void> {
  const last = new Map<string, string>();
  return (what, work) =>
    work.then(
      () => void last.delete(what),
      (error: unknown) => {
        const { message } = asFailure(error);
        if (last.get(what) !== message) log.error({ err: error }, what);
        last.set(what, message);
      },
    );
}

/**
 * The agent of this host hears all that hosts hold: a state of this controller that it has forgotten, or
 * one of another that took over. There may be no agent, or one that is in no cluster yet.
 */
async function lookAtAgent(controller: Controller, runDirectory: string, log: Log): Promise<void> {
  try {
    const { revision, root } = await controller.point();
    const { state } = await callUnix<{ state?: SignedState }>(
      join(runDirectory, "agent.sock"),
      "GET",
      `/v1/state?after=${revision}&root=${root}`,
    );
    if (state !== undefined) await controller.met(state);
  } catch (error) {
    log.debug({ err: error }, "could not ask this host's agent for a other state");
  }
}
