import type { Failure } from "../../../shared/errors.ts";
import type { Family } from "../../../shared/ip.ts";
import { type Ran, runProgram } from "../../../shared/node/run-program.ts";
import { TRANSIT_LINKS } from "../../core/data-plane/transit.ts";

/** Where Docker leaves room for others' rules before its own, which drop what they do not know. */
const CHAIN = "DOCKER-USER";
const TIMEOUT_MS = 10_000;

/** As `iptables -S` writes them: out, and back in what was answered. */
const OURS: readonly string[] = [
  `-i ${TRANSIT_LINKS}+ -j ACCEPT`,
  `-o ${TRANSIT_LINKS}+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
];

/** The table `filter` by iptables(8), the program that dockerd uses: its rules are where the program puts them. */
export class ForwardChain {
  readonly #netns: string | undefined;
  readonly #program: string;

  constructor(netns: string | undefined, family: Family) {
    this.#netns = netns;
    this.#program = family === 4 ? "iptables" : "ip6tables";
  }

  /** What passes through transits is let through, where Docker has room for it. @returns why not */
  async letThrough(): Promise<Failure | undefined> {
    const listed = await this.#list();
    if (listed === undefined || !drops(listed)) return undefined;
    const { missing, at } = roomFor(listed);
    if (at === undefined) return this.#noRoom();
    for (const rule of missing.toReversed()) {
      const { status, stderr } = await this.#run(["-I", CHAIN, String(at), ...rule.split(" ")]);
      if (status !== 0)
        return {
          code: "NETLINK",
          message: `${this.#program} refused a rule in ${CHAIN}: ${firstLine(stderr)}`,
          next: `see \`${this.#program} -S ${CHAIN}\``,
        };
    }
    return undefined;
  }

  /** Rules that `letThrough` would write, for `verify`. */
  async missing(): Promise<string[]> {
    const listed = await this.#list();
    if (listed === undefined || !drops(listed)) return [];
    const { missing, at } = roomFor(listed);
    // Without room there is nothing to mend: `letThrough` says why.
    return at === undefined ? [] : missing.map((rule) => `${CHAIN} has no rule ${rule}`);
  }

  /** Not there is success. */
  async remove(): Promise<void> {
    const listed = (await this.#list()) ?? [];
    for (const rule of OURS)
      if (listed.includes(`-A ${CHAIN} ${rule}`))
        await this.#run(["-D", CHAIN, ...rule.split(" ")]);
  }

  /** Undefined: there is no such program, or it has no such table. */
  async #list(): Promise<string[] | undefined> {
    const { status, stdout } = await this.#run(["-S"]).catch((): Ran => NOTHING);
    return status === 0 ? stdout.split("\n").map((line) => line.trim()) : undefined;
  }

  #run(args: readonly string[]): Promise<Ran> {
    const [command, ...more] = [
      ...(this.#netns === undefined ? [] : ["nsenter", `--net=${this.#netns}`]),
      this.#program,
      "-w",
      "5",
      ...args,
    ];
    return runProgram(command!, more, { timeoutMs: TIMEOUT_MS });
  }

  #noRoom(): Failure {
    return {
      code: "UNSUPPORTED",
      message: `${this.#program} drops what is forwarded (policy of FORWARD), and Docker has no ${CHAIN} there`,
      next: "start dockerd without `--iptables=false`, or let through what comes from and goes to `ovt+`",
    };
  }
}

const NOTHING: Ran = { status: undefined, stdout: "", stderr: "" };

function drops(listed: readonly string[]): boolean {
  return (
    listed.includes("-P FORWARD DROP") || listed.some((rule) => rule.startsWith("-A FORWARD "))
  );
}

/** Behind a user's own rules, and before the RETURN that ends the chain in Docker up to 27. `at` counts from 1. */
function roomFor(listed: readonly string[]): { missing: string[]; at: number | undefined } {
  const rules = listed.filter((line) => line.startsWith(`-A ${CHAIN} `));
  const isUsed = listed.includes(`-A FORWARD -j ${CHAIN}`);
  const end = rules.indexOf(`-A ${CHAIN} -j RETURN`);
  const heeded = end < 0 ? rules : rules.slice(0, end);
  const missing = OURS.filter((rule) => !heeded.includes(`-A ${CHAIN} ${rule}`));
  if (!isUsed && listed.includes("-P FORWARD DROP")) return { missing, at: undefined };
  return { missing: isUsed ? missing : [], at: heeded.length + 1 };
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0] ?? "";
}
