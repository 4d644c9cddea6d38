import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { Serve } from "./dns-programs/server.ts";

/** The name server as a process of its own. */
export class ServingProcess {
  readonly #child: ChildProcess;
  /** When it served everything it was told to. */
  readonly counters: Record<string, number>;

  private constructor(child: ChildProcess, counters: Record<string, number>) {
    this.#child = child;
    this.counters = counters;
  }

  /** @param kept by name: descriptors of this process, which it inherits. */
  static async start(
    what: Omit<Serve, "adopted">,
    kept: ReadonlyMap<string, number> = new Map(),
  ): Promise<ServingProcess> {
    const file = join(import.meta.dirname, "dns-programs/server.ts");
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", file], {
      stdio: ["ignore", "inherit", "inherit", "ipc", ...kept.values()],
    });
    const adopted = [...kept.keys()].map((name, i) => [name, 4 + i] as const);
    const counters = await new Promise<Record<string, number>>((resolve, reject) => {
      child.once("message", (message) => resolve(message as Record<string, number>));
      child.once("exit", () => reject(new Error("the name server ended")));
      child.send({ ...what, adopted } satisfies Serve);
    });
    return new ServingProcess(child, counters);
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }
}
