import { flushCompileCache } from "node:module";
import { supervisor } from "../../shared/node/supervisor.ts";
import type { Log } from "../../shared/ports.ts";
import type { Context } from "./context.ts";
import { untilSignal } from "./daemon.ts";
import { daemonLog } from "./daemon-log.ts";
import { readEnvironment } from "./environment.ts";
import { PLUGIN_SOCKET, supervision, waitingQuestions } from "./inherited.ts";

/**
 * Apart from the other commands: these load libp2p and koffi, the others need not. Each loads its own part only: the
 * controller's has libp2p in its main thread, which the agent has in a worker alone.
 */

export interface AgentOptions {
  readonly docker: string | false;
  readonly pluginSocket: string;
}

export async function agent(
  context: Context,
  { docker, pluginSocket }: AgentOptions,
): Promise<void> {
  const { runAgent } = await import("../main.ts");
  const service = {
    log: serviceLog("agent"),
    supervisor: supervisor(supervision, [PLUGIN_SOCKET]),
    waiting: waitingQuestions,
  };
  const [inherited, ...further] = service.supervisor.listening(PLUGIN_SOCKET);
  if (further.length > 0)
    service.log.warn(
      { further: further.length },
      "only the first socket of the plugin's is served",
    );
  const engine = docker !== false && {
    engineSocket: docker,
    pluginSocket: inherited === undefined ? pluginSocket : { fd: inherited },
    pluginPath: pluginSocket,
  };
  const { transitPool, metrics } = readEnvironment(process.env);
  const config = { ...context, transitPool, metrics, docker: engine || undefined };
  await untilSignal(service.supervisor, (signal) => runAgent(config, service, signal));
}

export async function controller(context: Context): Promise<void> {
  const { runController } = await import("../../controller/main.ts");
  const service = { log: serviceLog("controller"), supervisor: supervisor(supervision) };
  await untilSignal(service.supervisor, (signal) => runController(context, service, signal));
}

const serviceLog = (name: string): Log => daemonLog(name, readEnvironment(process.env).logLevel);

/** Loads all that the services load and keeps it compiled: they start faster and smaller then. */
export async function prepare(): Promise<void> {
  await Promise.all([
    import("../main.ts"),
    import("../../controller/main.ts"),
    import("../replication/gossip/mesh-node.ts"),
    import("../names/server/serving.ts"),
    import("./membership-commands.ts"),
  ]);
  flushCompileCache();
}
