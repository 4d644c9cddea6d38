import { flushCompileCache } from "node:module";
import { runController } from "../../controller/main.ts";
import { runAgent } from "../main.ts";
import type { Context } from "./context.ts";
import { daemonLog, untilSignal } from "./daemon.ts";

/** Apart from the other commands: these load libp2p and koffi, the others need not. */

export interface AgentOptions {
  readonly docker: string | false;
  readonly pluginSocket: string;
}

export function agent(context: Context, { docker, pluginSocket }: AgentOptions): Promise<void> {
  const engine = docker === false ? undefined : { engineSocket: docker, pluginSocket };
  const log = daemonLog("agent");
  return untilSignal((signal) => runAgent({ ...context, docker: engine }, log, signal));
}

export function controller(context: Context): Promise<void> {
  return untilSignal((signal) => runController(context, daemonLog("controller"), signal));
}

/** Loads all that the services load and keeps it compiled: they start faster and smaller then. */
export async function prepare(): Promise<void> {
  await Promise.all([import("../gossip/mesh-node.ts"), import("./membership-commands.ts")]);
  flushCompileCache();
}
