import { z } from "zod";
import type { Disk } from "../store/disk.ts";
import { sandboxName } from "../names/joined-sandboxes.ts";

/**
 * How a container leaves its networks: by Docker's docker_gwbridge, by the transit of ours, or not at all as long as
 * all that it was on is internal.
 */
export type Way = "gwbridge" | "transit" | "none";

const Decided = z.object({
  path: z.string().max(4096),
  way: z.enum(["gwbridge", "transit", "none"]),
});
type Decided = z.infer<typeof Decided>;

const PREFIX = "way/";

export interface SandboxWaysModules {
  readonly disk: Disk;
  /** Sandboxes that an agent before this one knew: those of which nothing was decided have docker_gwbridge. */
  readonly joined: readonly { readonly path: string }[];
  readonly isThere: (path: string) => boolean;
}

/**
 * Decided at a container's first Join, for as long as its namespace is there: Docker takes docker_gwbridge away, with
 * its published ports and all open connections, as soon as one endpoint has a gateway (clearDefaultGW of moby's
 * libnetwork/default_gateway.go).
 */
export class SandboxWays {
  readonly #modules: SandboxWaysModules;
  readonly #decided = new Map<string, Decided>();
  /** At the last look. */
  #gone: ReadonlySet<string> = new Set();

  constructor(modules: SandboxWaysModules) {
    this.#modules = modules;
    for (const decided of modules.disk.list(PREFIX, Decided))
      this.#decided.set(sandboxName(decided.path), decided);
    for (const { path } of modules.joined)
      if (!this.#decided.has(sandboxName(path))) this.#decide(path, "gwbridge");
  }

  of(path: string): Way | undefined {
    return this.#decided.get(sandboxName(path))?.way;
  }

  /** @param offered what this network would do for a container of which nothing is decided */
  decide(path: string, offered: Way): Way {
    const held = this.of(path);
    if (held !== undefined && held !== "none") return held;
    if (held !== offered) this.#decide(path, offered);
    return offered;
  }

  /** Containers that leave by our networks now. */
  byTransit(): number {
    return [...this.#decided.values()].filter(({ way }) => way === "transit").length;
  }

  /** Namespaces that are gone twice in turn: Docker up to 20.10 makes one after its first Join was answered. */
  forgetGone(): void {
    const gone = [...this.#decided.values()].filter(({ path }) => !this.#modules.isThere(path));
    const names = new Set(gone.map(({ path }) => sandboxName(path)));
    for (const name of names) if (this.#gone.has(name)) this.#forget(name);
    this.#gone = names;
  }

  /** On a full disk it counts until the agent ends, and a later one finds docker_gwbridge. */
  #decide(path: string, way: Way): void {
    const decided = { path, way };
    this.#decided.set(sandboxName(path), decided);
    this.#modules.disk.owePut(PREFIX + sandboxName(path), decided);
  }

  #forget(name: string): void {
    if (this.#decided.delete(name)) this.#modules.disk.oweDelete(PREFIX + name);
  }
}
