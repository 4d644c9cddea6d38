import { existsSync } from "node:fs";
import type { Failure } from "../../../shared/errors.ts";

/** Where Docker looks for the plugin: who serves it keeps the socket when its file is deleted, and hears nothing. */
export class PluginSocket {
  readonly #path: string;
  readonly #units: string;

  /** @param isInherited systemd made it: a restart of the agent alone hands in the one without a file again */
  constructor(path: string, isInherited: boolean) {
    this.#path = path;
    this.#units = isInherited ? "overlay-ts-plugin.socket overlay-ts-agent" : "overlay-ts-agent";
  }

  /** As of now. */
  failure(): Failure | undefined {
    if (existsSync(this.#path)) return undefined;
    return {
      code: "UNREACHABLE",
      message: `Docker reaches no plugin here: its socket ${this.#path} is gone, under an agent that runs`,
      next: `\`systemctl restart ${this.#units}\` makes it again; what runs goes on`,
    };
  }
}
