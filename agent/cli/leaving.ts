import { existsSync } from "node:fs";
import { OverlayError } from "../../shared/errors.ts";
import { ProcessLock } from "../../shared/node/process-lock.ts";
import { NotServed } from "../../shared/node/unix-http.ts";
import type { Log } from "../../shared/ports.ts";
import { notJoined } from "../core/life.ts";
import type { Ended } from "../lifecycle.ts";
import { inUse } from "../lifecycle.ts";
import { EngineClient } from "../docker/engine/client.ts";
import { GONE } from "../docker/plugin/gone.ts";
import { PluginServer } from "../docker/plugin/server.ts";
import { viewsInUse, withdrawViews } from "../docker/withdraw-views.ts";
import { CutOffFile, rememberCutOff } from "../docker/cut-off.ts";
import { forgetMembership, forgetUnusedKey } from "../membership/membership-files.ts";
import { remainsOf } from "../leftovers.ts";
import { agentSocket, callAgent, type Context, filesOf, requireRoot, unheard } from "./context.ts";
import { refuseControllersHost } from "./controllers-host.ts";
import { print, progress } from "./output.ts";

/**
 * Commands that end what this host has. They ask the agent; one that lives and cannot be asked is left alone,
 * for it would put back what is taken away. Only where none lives is it done here.
 */

/** Whether the agent lives: it answers this at once, whatever it does. */
const ALIVE_MS = 10_000;
/** Containers are cut off one after another, and Docker takes its time for each. */
const END_MS = 600_000;

export interface EndOptions {
  readonly force?: boolean;
  /** As the agent's, for when none runs. */
  readonly docker: string;
  readonly pluginSocket: string;
}

const KEY_DELETED = "This host was no member; its key is deleted, and the next join makes another.";

function isNotJoined(error: unknown): boolean {
  return error instanceof OverlayError && error.code === "NOT_JOINED";
}

/** The host forgets cluster and key; its networks go from kernel and engine. */
export async function leave(context: Context, options: EndOptions): Promise<void> {
  requireRoot();
  const { membership, identity } = filesOf(context);
  // Before the agent is asked: what containers use is nothing to stop for a host that cannot leave.
  if (options.force !== true && [membership, identity].some((file) => existsSync(file)))
    await refuseControllersHost(context);
  let ended: Ended;
  try {
    ended =
      (await throughAgent(context, "leave", options)) ?? (await withoutAgent(context, options));
  } catch (error) {
    // A key alone may be here too: copied, or of a joining that was not answered.
    if (!isNotJoined(error) || !forgetUnusedKey(filesOf(context))) throw error;
    print(context, { left: false, keyDeleted: true }, () => KEY_DELETED);
    return;
  }
  print(context, { left: true, ...ended }, () =>
    [
      ended.removed === true
        ? "This host has left the cluster, which had removed it already."
        : "This host has left. Remove it from the table with `overlay-ts node rm` on the controller's host, unless it was a copy of a machine that goes on.",
      ...endedText(ended),
    ].join("\n"),
  );
}

/** Kernel and engine as if we had never been there, until the agent starts again. */
export async function withdraw(context: Context, options: EndOptions): Promise<void> {
  requireRoot();
  const ended = await throughAgent(context, "withdraw", options);
  if (ended === undefined)
    throw new OverlayError({
      code: "UNREACHABLE",
      message: "no agent runs that could withdraw, and come back later",
      next: "start it, `systemctl start overlay-ts-agent`, and run this again; `overlay-ts leave` works without it",
    });
  print(context, { withdrawn: true, ...ended }, () =>
    ["This host's networks are gone; it is still a member.", ...endedText(ended)].join("\n"),
  );
}

/** Undefined: none lives. @throws TIMEOUT: it lives, and cannot be asked */
async function throughAgent(
  context: Context,
  what: "leave" | "withdraw",
  { force = false }: EndOptions,
): Promise<Ended | undefined> {
  try {
    await callAgent(context, "GET", "/v1/life", undefined, ALIVE_MS);
  } catch (error) {
    if (error instanceof NotServed) return undefined;
    // An agent of a version before answers too, that it does not know this.
    if (!(error instanceof OverlayError) || error.code !== "NOT_FOUND") throw error;
  }
  return callAgent<Ended>(context, "POST", `/v1/${what}?force=${force}`, undefined, END_MS);
}

async function withoutAgent(context: Context, options: EndOptions): Promise<Ended> {
  const files = filesOf(context);
  const remains = await remainsOf(context.runDirectory, files);
  if (!existsSync(files.directory) && !remains.any()) throw notJoined();
  const lock = ProcessLock.take(files.lock, "`overlay-ts leave`");
  if (!(lock instanceof ProcessLock)) throw unheard(lock.heldBy, agentSocket(context));
  const engine = new EngineClient(options.docker);
  try {
    if (!existsSync(files.membership) && !remains.any()) throw notJoined();
    if (options.force !== true) {
      const busy = [...(await remains.busy()), ...(await viewsInUse(engine))];
      if (busy.length > 0) throw inUse(busy);
    }
    progress("no agent runs: its things are taken out of the kernel by this command");
    await remains.remove();
    forgetMembership(files);
  } finally {
    // An agent that Docker's calls start now finds no membership.
    lock.release();
  }
  const plugin = new PluginServer(options.pluginSocket, { ...GONE, log: silent });
  // Somebody serves it: the service manager, who starts an agent when Docker calls.
  const serves = await plugin.start().then(
    () => true,
    () => false,
  );
  try {
    const ended = await withdrawViews(engine, () => {});
    rememberCutOff(new CutOffFile(files.cutOff), ended.cutOff);
    return ended;
  } finally {
    if (serves) await plugin.stop();
  }
}

function endedText({ cutOff, stays }: Ended): string[] {
  return [
    ...(cutOff.length === 0
      ? []
      : [
          "Cut off, and without their networks now; when this host is a member again, these connect them again:",
          ...cutOff.map(({ network, name }) => `    docker network connect ${network} ${name}`),
        ]),
    ...stays.map((what) => `Not taken away: ${what}`),
  ];
}

const nothing = (): void => {};
const silent: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing };
