import { OverlayError } from "../../../shared/errors.ts";
import { inNetns, inScratchNetns } from "../netns.ts";
import { Nftables } from "./nftables.ts";
import { runProgram } from "../../../shared/node/run-program.ts";
import { startProgram } from "../../../shared/node/start-program.ts";

/** The first script after a boot waits for the kernel to load what it names. */
const TIMEOUT_MS = 30_000;

/** Longer ones hold up the thread: they are the program's. */
const SHORT_CHARACTERS = 8192;

export interface BaseChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook: string;
  readonly policy: string;
}

/**
 * nftables(8) in some namespace. One transaction a script, never one an entry: it is one atomic change of the kernel's
 * rules, or none.
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

  /**
   * As `apply`, for a few entries more or less: by libnftables in this thread, in a millisecond or two. To start the program
   * takes ten of this thread, whose memory the kernel maps for it once more (fork(2)), and as much of the program itself.
   */
  async change(script: string, op: string): Promise<void> {
    const nftables = script.length > SHORT_CHARACTERS ? undefined : this.#library();
    if (nftables === undefined) return this.apply(script, op);
    try {
      nftables.run(script, op);
    } finally {
      nftables.close();
    }
  }

  /** As `table`, of one that has some entries at most: as `change`. */
  async smallTable(family: "inet" | "bridge", name: string): Promise<unknown[] | undefined> {
    const nftables = this.#library();
    if (nftables === undefined) return this.table(family, name);
    try {
      const text = nftables.list(`${family} ${name}`, "json");
      return text === undefined ? undefined : parsed(text);
    } finally {
      nftables.close();
    }
  }

  /** Chains that the kernel itself calls, of all tables (libnftables-json(5)). */
  async baseChains(): Promise<BaseChain[]> {
    const nftables = this.#library();
    if (nftables === undefined)
      return baseChainsOf(await this.#run(["-j", "list", "chains"], "", "list chains"));
    try {
      return baseChainsOf(nftables.chains());
    } finally {
      nftables.close();
    }
  }

  /** As `form`, of one that has some rules: as `change`. */
  async smallForm(script: string, family: "inet" | "bridge", name: string): Promise<unknown[]> {
    const nftables = this.#library(inScratchNetns);
    if (nftables === undefined) return this.form(script, family, name);
    try {
      nftables.run(script, `form ${name}`);
      return parsed(nftables.list(`${family} ${name}`, "json") ?? "");
    } finally {
      nftables.close();
    }
  }

  /** Undefined: not installed beside the program, or no descriptor for it. */
  #library(within = (make: () => Nftables) => inNetns(this.#netns, make)): Nftables | undefined {
    try {
      return within(() => new Nftables());
    } catch (error) {
      if (error instanceof OverlayError && ["UNSUPPORTED", "FULL"].includes(error.code))
        return undefined;
      throw error;
    }
  }

  /** A table as nft's JSON (libnftables-json(5)); undefined when it is not there. */
  async table(family: "inet" | "bridge", name: string): Promise<unknown[] | undefined> {
    try {
      return parsed(await this.#run(["-j", "list", "table", family, name], "", `list ${name}`));
    } catch (error) {
      if (/No such file or directory/.test((error as Error).message)) return undefined;
      throw error;
    }
  }

  /** A table that `script` makes, as it is listed: made in a namespace that ends with the listing. */
  async form(script: string, family: "inet" | "bridge", name: string): Promise<unknown[]> {
    const list = `nft -f - && nft -j list table ${family} ${name}`;
    return parsed(
      await this.#start("unshare", ["--net", "sh", "-c", list], script, `form ${name}`),
    );
  }

  /** Runs until `signal` aborts; each line of `nft monitor`. */
  monitor(onLine: (line: string) => void, onEnd: () => void, signal: AbortSignal): void {
    const [command, args] = this.#argv(["monitor"]);
    const stdio = ["ignore", "pipe", "ignore"] as const;
    // One that was not started has no end of its own.
    const child = startProgram(command, args, { stdio: [...stdio], signal }, () => {});
    if (child === undefined) return onEnd();
    let rest = "";
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    });
    child.on("close", onEnd);
  }

  #argv(args: string[]): [string, string[]] {
    return this.#netns === undefined
      ? ["nft", args]
      : ["nsenter", [`--net=${this.#netns}`, "nft", ...args]];
  }

  #run(args: string[], input: string, op: string): Promise<string> {
    return this.#start(...this.#argv(args), input, op);
  }

  async #start(command: string, args: string[], input: string, op: string): Promise<string> {
    const options = { input, timeoutMs: TIMEOUT_MS };
    const { status, stdout, stderr } = await runProgram(command, args, options);
    if (status === 0) return stdout;
    throw failed(op, stderr.trim().split("\n")[0] ?? `nft ended with ${status}`);
  }
}

function parsed(text: string): unknown[] {
  return (JSON.parse(text) as { nftables: unknown[] }).nftables;
}

function baseChainsOf(text: string): BaseChain[] {
  return parsed(text).flatMap((entry) => {
    const { chain } = entry as { chain?: Partial<BaseChain> };
    return chain?.hook === undefined ? [] : [chain as BaseChain];
  });
}

/** Chains and rules without what changes by itself: handles. */
export function rulesOf(table: readonly unknown[]): string {
  const kept = table.flatMap((entry) => {
    const { chain, rule } = entry as Record<string, Record<string, unknown> | undefined>;
    return chain ?? rule ?? [];
  });
  return JSON.stringify(kept, (name, value: unknown) => (name === "handle" ? undefined : value));
}

/** Packets, by the counter's name. */
export function countersOf(table: readonly unknown[]): Record<string, number> {
  const counters = table.flatMap(
    (entry) => (entry as { counter?: { name: string; packets: number } }).counter ?? [],
  );
  return Object.fromEntries(counters.map(({ name, packets }) => [name, packets]));
}

function failed(op: string, why: string): OverlayError {
  return new OverlayError({
    code: "NETLINK",
    op: `nft ${op}`,
    message: `nftables refused (${op}): ${why}`,
    next: "check that nftables is installed and the kernel has nf_tables",
  });
}
