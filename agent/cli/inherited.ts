import { takeSupervision } from "../../shared/node/supervision.ts";
import type { WaitingQuestions } from "../names/server/waiting-questions.ts";

/**
 * What this process got from the service manager and from the agent before it, taken once. Programs
 * that it starts get none of it: Node closes what it inherits on exec.
 */

/** FileDescriptorName= of overlay-ts-plugin.socket. */
export const PLUGIN_SOCKET = "plugin";

export const supervision = takeSupervision();

const kept = supervision.descriptors.filter(({ name }) => name !== PLUGIN_SOCKET);

/** In the sockets that came back; undefined when none did. */
export const waitingQuestions: WaitingQuestions | undefined =
  kept.length === 0 ? undefined : await wait(kept.map(({ fd }) => fd));

async function wait(sockets: readonly number[]): Promise<WaitingQuestions> {
  const { awaitServer, PATIENCE_MS } = await import("../names/server/waiting-questions.ts");
  // The variable is validated later with all others; an invalid value means no wait until then.
  const { OVERLAY_TS_PATIENCE_MS: said = PATIENCE_MS } = process.env;
  return awaitServer(sockets, Number(said) || 0);
}
