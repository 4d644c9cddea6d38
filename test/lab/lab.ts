import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deletePinnedNetns } from "../../agent/kernel/netns.ts";
import type { EngineKind } from "../support/engine-root.ts";
import type { Family } from "../../shared/ip.ts";
import { TestHosts } from "../support/hosts.ts";
import { busyboxImage } from "../support/image.ts";
import { inParallel } from "../support/in-parallel.ts";
import { eventually, LabHost, NAMESERVER } from "../support/lab-host.ts";
import { neighboursAsBefore, roomForNeighbours } from "./neighbour-table.ts";

export const IMAGE = "overlay-ts-lab";
const HOSTS_FILE = "hosts.json";
/** Agents, and hosts that join: mostly work of a processor, and with many each would take as long as all. */
const AT_ONCE = 4;
/** In a lab of so many one after another, as a person would: numbers and lists of hosts are in the order of their names. */
const IN_ORDER = 8;
/** For the controller's answer to who joins, where labs beside this one have the processors: a person would ask again. */
const FORMING_MS = 60_000;

export interface LabOptions {
  readonly directory: string;
  readonly hosts: number;
  readonly docker: boolean;
  /** Of h1, h2 and so on, and again from the start; without it Debian 12's, on which the lab runs. */
  readonly engines?: readonly EngineKind[];
  /** Of all hosts, undefined: this checkout's. */
  readonly program?: string | undefined;
  /** What happens, for who waits. */
  readonly say: (text: string) => void;
}

/**
 * Hosts inside this machine, h1 with the controller, on a switch of their own and without a route
 * out; each with its engine and agent. Lives on disk, so that other commands find it again.
 */
export class Lab {
  readonly directory: string;
  readonly hosts: readonly LabHost[];

  private constructor(directory: string, hosts: readonly LabHost[]) {
    this.directory = directory;
    this.hosts = hosts;
  }

  /** What the last one left, also after a crash, is cleaned first. */
  static async up({
    directory,
    hosts: count,
    docker,
    engines = ["20.10"],
    program,
    say,
  }: LabOptions): Promise<Lab> {
    await Lab.down(directory);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, HOSTS_FILE), JSON.stringify(count));
    roomForNeighbours(directory, count);
    say(`${count} hosts on a switch of their own`);
    const hosts = await startHosts(directory, count);
    for (const host of hosts) host.program = program ?? host.program;
    if (docker) {
      say("Docker engines");
      await Promise.all(
        hosts.map((host, i) => host.startEngine(engines[i % engines.length] ?? "20.10")),
      );
      say((await engineVersions(hosts)).join(", "));
      const image = busyboxImage(directory);
      await Promise.all(hosts.map((host) => host.docker("import", image, IMAGE)));
    }
    say("controller and agents");
    // As the installer does on a real host.
    await hosts[0]?.overlay("prepare");
    hosts[0]?.startController();
    await inParallel(AT_ONCE, hosts, async (host) => {
      startAgent(host, docker);
      await eventually(20_000, `agent of ${host.name}`, () => host.status());
    });
    return new Lab(directory, hosts);
  }

  /** The hosts of one that has ended, with what they had on disk: nothing runs on them yet. */
  static async again(directory: string): Promise<Lab> {
    return new Lab(directory, await startHosts(directory, hostCount(directory)));
  }

  /** The cluster: `init` on h1, `join` on the others; many of them some at a time. */
  async form(
    say: (text: string) => void,
    underlay: Family = 4,
    ...options: readonly string[]
  ): Promise<void> {
    const [first, ...others] = this.hosts;
    const address = underlay === 4 ? "198.51.100.1" : "2001:db8::1";
    say("overlay-ts init on h1");
    const patiently = (host: LabHost, ...words: string[]): Promise<string> =>
      host.exec("env", `OVERLAY_TS_PATIENCE_MS=${FORMING_MS}`, host.program, ...words);
    if (first !== undefined)
      await patiently(first, "init", "--advertise-addr", address, ...options);
    // That of `init` lets in fewer than a large lab has.
    const uses = String(Math.max(1, others.length));
    const token = (await first?.overlay("token", "create", "--uses", uses))?.trim() ?? "";
    await inParallel(others.length < IN_ORDER ? 1 : AT_ONCE, others, async (host) => {
      say(`overlay-ts join on ${host.name}`);
      await patiently(host, "join", "--token", token, address);
    });
  }

  /** @throws when there is none. */
  static find(directory: string): Lab {
    const hosts = Array.from({ length: hostCount(directory) }, (_, i) => {
      const host = LabHost.find(
        `h${i + 1}`,
        hostDirectory(directory, i + 1),
        join(directory, `h${i + 1}`),
      );
      if (host === undefined)
        throw new Error(`host h${i + 1} no longer runs: \`npm run lab\` starts anew`);
      return host;
    });
    return new Lab(directory, hosts);
  }

  host(name: string): LabHost {
    const found = this.hosts.find((host) => host.name === name);
    if (found === undefined)
      throw new Error(
        `no host ${name}; there are ${this.hosts.map((host) => host.name).join(", ")}`,
      );
    return found;
  }

  /** Every process, namespace, mount and file of it. Nothing there is success. */
  static async down(directory: string): Promise<void> {
    await Lab.end(directory);
    neighboursAsBefore(directory);
    rmSync(directory, { recursive: true, force: true });
  }

  /** As machines that lose power: what is on disk stays, and nothing in /run. */
  static async end(directory: string): Promise<void> {
    if (!existsSync(directory)) return;
    for (const name of readdirSync(directory))
      if (name.startsWith("host-")) await LabHost.end(join(directory, name));
    unmountBelow(directory);
    for (const name of readdirSync(directory)) {
      const path = join(directory, name);
      if (name.startsWith("host-")) rmSync(join(path, "run"), { recursive: true, force: true });
      if (/^(h\d+|switch)$/.test(name)) deletePinnedNetns(path);
    }
  }
}

/** `h1 20.10.24+dfsg1` and so on: the newest kind moves on with its release. */
export function engineVersions(hosts: readonly LabHost[]): Promise<string[]> {
  return Promise.all(hosts.map(async (host) => `${host.name} ${await host.engineVersion()}`));
}

export function startAgent(host: LabHost, docker: boolean): void {
  host.startAgent(...(docker ? [] : ["--no-docker"]));
}

/** @throws when there is none. */
function hostCount(directory: string): number {
  const file = join(directory, HOSTS_FILE);
  if (!existsSync(file)) throw new Error("there is no lab: `npm run lab` starts one");
  return JSON.parse(readFileSync(file, "utf8")) as number;
}

async function startHosts(directory: string, count: number): Promise<LabHost[]> {
  const net = new TestHosts(count, { directory });
  net.in(join(net.directory, "switch"), `ip address add ${NAMESERVER}/24 dev sw`);
  const hosts: LabHost[] = [];
  for (let k = 1; k <= count; k++)
    hosts.push(
      await LabHost.start(`h${k}`, hostDirectory(directory, k), join(net.directory, `h${k}`)),
    );
  return hosts;
}

function hostDirectory(directory: string, k: number): string {
  return join(directory, `host-h${k}`);
}

/** The switch's namespace, where h2's plug is p2, and so on. */
export function switchOf(lab: Lab): string {
  return join(lab.directory, "switch");
}

/** Mounts end with their host's namespace; what a crash left in ours goes here. */
function unmountBelow(directory: string): void {
  const points = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point.startsWith(`${directory}/host-`))
    .toReversed();
  for (const point of points) execFileSync("umount", ["-l", point]);
}
