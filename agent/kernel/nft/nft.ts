import { spawn } from "node:child_process";
import { OverlayError } from "../../shared/errors.ts";

const TIMEOUT_MS = 10_000;

/**
 * The nft program (nftables(8)) in some namespace. One process a transaction, never one an entry: a
 * script is one atomic change of the kernel's rules, or none.
 */
export class Nft {
  readonly #netns: string | undefined;

  constructor(netns: string | undefined) {
    this.#netns = netns;
  }

  /** @throws NETLINK with nft's own words; nothing was changed then. */
  async apply(script: string, op: string): Promise<void> {
    await this.#run(["-f", "-"], script, op);
  }

  /** A table as nft's JSON (libnftables-json(5)); undefined when it is not there. */
  async table(family: "inet" | "bridge", name: string): Promise<unknown[] | undefined> {
    try {
      const text = await this.#run(["-j", "list", "table", family, name], "", `list ${name}`);
      return (JSON.parse(text) as { nftables: unknown[] }).nftables;
    } catch (error) {
      if (/No such file or directory/.test((error as Error).message)) return undefined;
      throw error;
    }
  }

  /** Runs until `signal` aborts; each line of `nft monitor`. */
  monitor(onLine: (line: string) => void, onEnd: () => void, signal: AbortSignal): void {
    const [command, args] = this.#argv(["monitor"]);
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "ignore"], signal });
    let rest = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    });
    child.on("error", () => {});
    child.on("close", onEnd);
  }

  #argv(args: string[]): [string, string[]] {
    return this.#netns === undefined
      ? ["nft", args]
      : ["nsenter", [`--net=${this.#netns}`, "nft", ...args]];
  }

  #run(args: string[], input: string, op: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const [command, all] = this.#argv(args);
      const child = spawn(command, all, {
        stdio: ["pipe", "pipe", "pipe"],
        timeout: TIMEOUT_MS,
      });
      let stdout = "";
      let stderr = "";
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk));
      child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
      child.on("error", (cause) => reject(failed(op, cause.message, cause)));
      child.on("close", (status) => {
        if (status === 0) resolve(stdout);
        else reject(failed(op, stderr.trim().split("\n")[0] ?? `nft ended with ${status}`));
      });
      child.stdin.on("error", () => {});
      child.stdin.end(input);
    });
  }
}

function failed(op: string, why: string, cause?: unknown): OverlayError {
  return new OverlayError(
    {
      code: "NETLINK",
      op: `nft ${op}`,
      message: `nftables refused (${op}): ${why}`,
      next: "check that nftables is installed and the kernel has nf_tables",
    },
    { cause },
  );
}
