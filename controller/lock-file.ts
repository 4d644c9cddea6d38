import { join } from "node:path";

/** Held by the controller that serves this host's commands, whatever became of its socket. */
export function controllerLock(dataDirectory: string): string {
  return join(dataDirectory, "controller/controller.lock");
}
