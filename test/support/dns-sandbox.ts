import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Scope } from "../../agent/core/names/name-table.ts";
import type { Closed, Sandbox, SandboxId } from "../../agent/names/server/port.ts";
import { createPinnedNetns, deletePinnedNetns } from "../../agent/kernel/netns.ts";
import type { Ask, Command, Load, Loaded, Said } from "./dns-programs/client.ts";

/** With what Docker's rules are made; `nftables`: of Docker 29 with `"firewall-backend": "nftables"`. */
export type RulesKind = "iptables-nft" | "iptables-legacy" | "nftables";
type CommandOf<T> = T extends unknown ? Omit<T, "id"> : never;

let made = 0;

/** A namespace as a container has it: `lo`, Docker's resolver and its rules, and a program that asks. */
export class DnsSandbox {
  readonly directory = mkdtempSync(join(tmpdir(), "ovt-dns-"));
  readonly id = (++made).toString(16).padStart(12, "0") as SandboxId;
  readonly path = join(this.directory, this.id);
  readonly #children: ChildProcess[] = [];
  readonly #waiting = new Map<number, (message: { value?: unknown; error?: string }) => void>();
  #client: ChildProcess | undefined;
  #lastId = 0;

  /** All of it. */
  static async open(kind: RulesKind = "iptables-nft"): Promise<DnsSandbox> {
    const sandbox = new DnsSandbox();
    sandbox.mount();
    sandbox.up();
    await sandbox.startResolver(kind);
    return sandbox;
  }

  mount(): void {
    createPinnedNetns(this.path);
  }

  up(): void {
    this.run("ip link set lo up");
  }

  /** As `setupIptablesNAT` and `setupNftablesNAT` of moby's libnetwork/resolver_unix.go. */
  async startResolver(kind: RulesKind = "iptables-nft"): Promise<void> {
    const child = this.program("resolver");
    const { udp, tcp } = await new Promise<{ udp: number; tcp: number }>((resolve) => {
      child.once("message", (ports) => resolve(ports as { udp: number; tcp: number }));
    });
    if (kind === "nftables") this.#nftablesRules(udp, tcp);
    else this.#iptablesRules(kind, udp, tcp);
  }

  #iptablesRules(kind: Exclude<RulesKind, "nftables">, udp: number, tcp: number): void {
    const [ip, out, post] = ["127.0.0.11", "DOCKER_OUTPUT", "DOCKER_POSTROUTING"];
    for (const rule of [
      `-N ${out}`,
      `-N ${post}`,
      `-I OUTPUT -d ${ip} -j ${out}`,
      `-I ${out} -d ${ip} -p udp --dport 53 -j DNAT --to-destination ${ip}:${udp}`,
      `-I POSTROUTING -d ${ip} -j ${post}`,
      `-I ${post} -s ${ip} -p udp --sport ${udp} -j SNAT --to-source :53`,
      `-I ${out} -d ${ip} -p tcp --dport 53 -j DNAT --to-destination ${ip}:${tcp}`,
      `-I ${post} -s ${ip} -p tcp --sport ${tcp} -j SNAT --to-source :53`,
    ])
      this.run(`${kind} -w -t nat ${rule}`);
  }

  #nftablesRules(udp: number, tcp: number): void {
    const [ip, table] = ["127.0.0.11", "ip docker-dns"];
    for (const rule of [
      `add table ${table}`,
      `add chain ${table} dns-dnat { type nat hook output priority -100 ; policy accept ; }`,
      `add rule ${table} dns-dnat ip daddr ${ip} udp dport 53 counter dnat to ${ip}:${udp}`,
      `add rule ${table} dns-dnat ip daddr ${ip} tcp dport 53 counter dnat to ${ip}:${tcp}`,
      `add chain ${table} dns-snat { type nat hook postrouting priority 100 ; policy accept ; }`,
      `add rule ${table} dns-snat ip saddr ${ip} udp sport ${udp} counter snat to :53`,
      `add rule ${table} dns-snat ip saddr ${ip} tcp sport ${tcp} counter snat to :53`,
    ])
      this.run(`nft ${rule}`);
  }

  sandbox(scope: Scope, closed?: Closed): Sandbox {
    return { id: this.id, path: this.path, scope, closed };
  }

  run(command: string): string {
    const [program = "", ...args] = command.split(" ");
    return execFileSync("nsenter", [`--net=${this.path}`, program, ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  /** One of `dns-programs/`, inside. */
  program(name: "client" | "resolver" | "meter", ...args: string[]): ChildProcess {
    const file = join(import.meta.dirname, "dns-programs", `${name}.ts`);
    const child = spawn(
      "nsenter",
      [
        `--net=${this.path}`,
        process.execPath,
        "--disable-warning=ExperimentalWarning",
        file,
        ...args,
      ],
      { stdio: ["ignore", "inherit", "inherit", "ipc"] },
    );
    this.#children.push(child);
    return child;
  }

  async ask(name: string, ask: Omit<Ask, "name"> = {}): Promise<Said> {
    const said = await this.tryAsk(name, ask);
    if (typeof said === "string") throw new Error(`${name}: ${said}`);
    return said;
  }

  /** What was said, or how it failed: `nothing`, `ECONNREFUSED`. */
  tryAsk(name: string, ask: Omit<Ask, "name"> = {}): Promise<Said | string> {
    return this.#command({ ask: { name, ...ask } });
  }

  /** Over one TCP connection, in pieces of so many bytes. */
  pipeline(asks: readonly Ask[], cut: number): Promise<(Said | string)[]> {
    return this.#command({ pipeline: asks, cut });
  }

  load(load: Load): Promise<Loaded> {
    return this.#command({ load });
  }

  flood(name: string, count: number): Promise<void> {
    return this.#command({ flood: { name, count } });
  }

  connections(count: number): Promise<number> {
    return this.#command({ connections: count });
  }

  /** As libc would: the first address, or what was said instead. */
  async first(name: string, ask: Omit<Ask, "name"> = {}): Promise<string> {
    const said = await this.tryAsk(name, ask);
    return typeof said === "string" ? said : (said.data[0] ?? said.rcode);
  }

  async close(): Promise<void> {
    for (const child of this.#children) {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGKILL");
        await ended;
      }
    }
    this.unmount();
    rmSync(this.directory, { recursive: true, force: true });
  }

  unmount(): void {
    deletePinnedNetns(this.path);
  }

  async #command<T>(command: CommandOf<Command>): Promise<T> {
    const client = (this.#client ??= this.#startClient());
    const id = ++this.#lastId;
    const { value, error } = await new Promise<{ value?: unknown; error?: string }>((resolve) => {
      this.#waiting.set(id, resolve);
      client.send({ id, ...command });
    });
    if (error !== undefined) throw new Error(error);
    return value as T;
  }

  #startClient(): ChildProcess {
    const client = this.program("client");
    client.on("message", (message: { id: number; value?: unknown; error?: string }) => {
      this.#waiting.get(message.id)?.(message);
      this.#waiting.delete(message.id);
    });
    client.on("exit", () => {
      for (const ended of this.#waiting.values()) ended({ error: "the client ended" });
      this.#waiting.clear();
    });
    return client;
  }
}

export const hasLegacyIptables = (): boolean => {
  try {
    execFileSync("iptables-legacy", ["--version"]);
    return true;
  } catch {
    return false;
  }
};
