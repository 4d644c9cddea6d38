import { takeSupervision } from "../../shared/node/supervision.ts";
import type { WaitingQuestions } from "../dns/waiting-questions.ts";

/** What this process got from the service manager and from the agent before it, taken once. */

/** FileDescriptorName= of overlay-ts-plugin.socket. */
export const PLUGIN_SOCKET = "plugin";

export const supervision = takeSupervision();

const kept = supervision.descriptors.filter(({ name }) => name !== PLUGIN_SOCKET);

/** In the sockets that came back; undefined when none did. */
export const waitingQuestions: WaitingQuestions | undefined =
  kept.length === 0
    ? undefined
    : (await import("../dns/waiting-questions.ts")).awaitServer(kept.map(({ fd }) => fd));
