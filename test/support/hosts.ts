import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { createPinnedNetns, deletePinnedNetns } from "../../agent/kernel/netns.ts";

const run = promisify(execFile);

export interface HostsOptions {
  readonly directory?: string;
  /** Of the switch and the hosts' interfaces. */
  readonly mtuBytes?: number;
}

/**
 * Hosts as pinned network namespaces on one switch in a namespace of its own: 198.51.100.k and
 * 2001:db8::k each, no route out. Everything ends with `close`.
 */
export class TestHosts {
  readonly directory: string;
  readonly #pinned: string[] = [];

  constructor(
    count: number,
    { directory = mkdtempSync(join(tmpdir(), "ovt-hosts-")), mtuBytes = 1500 }: HostsOptions = {},
  ) {
    this.directory = directory;
    const plug = this.netns("switch");
    this.in(plug, "ip link add sw type bridge mcast_snooping 0");
    this.in(plug, "ip link set sw up");
    for (let k = 1; k <= count; k++) {
      const host = this.netns(`h${k}`);
      this.in(
        plug,
        `ip link add p${k} mtu ${mtuBytes} type veth peer name eth0 mtu ${mtuBytes} netns ${host}`,
      );
      this.in(plug, `ip link set p${k} master sw up`);
      this.in(host, "ip link set lo up");
      this.in(host, "ip link set eth0 up");
      this.in(host, `ip address add 198.51.100.${k}/24 dev eth0`);
      this.in(host, `ip address add 2001:db8::${k}/64 dev eth0 nodad`);
      this.in(host, "ip route add unreachable default");
    }
  }

  /** A new namespace; its path serves `hostNetns` and `in`. */
  netns(name: string): string {
    const path = join(this.directory, name);
    createPinnedNetns(path);
    this.#pinned.push(path);
    return path;
  }

  in(netns: string, command: string): string {
    return execFileSync("nsenter", [`--net=${netns}`, ...command.split(" ")], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  /** What Docker does with the link it is given: into the container, named, addressed, up. */
  container(name: string, host: string, link: string, addresses: readonly string[]): string {
    const netns = this.netns(name);
    this.in(host, `ip link set ${link} netns ${netns} name eth0`);
    this.in(netns, "ip link set lo up");
    this.in(netns, "ip link set eth0 up");
    // As Docker does: an address that is ours alone needs no asking.
    for (const address of addresses) this.in(netns, `ip address add ${address} dev eth0 nodad`);
    return netns;
  }

  /** Answers received of `count` echo requests, ICMP; 0 also when ping fails. */
  async ping(netns: string, address: string, ...options: string[]): Promise<number> {
    const command = ["ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", ...options, address];
    const { stdout } = await run("nsenter", [`--net=${netns}`, ...command]).catch(
      (error: { stdout?: string }) => ({ stdout: error.stdout ?? "" }),
    );
    return Number(/(\d+) received/.exec(stdout)?.[1] ?? 0);
  }

  /** Echo requests fifty times a second while `work` runs; how many were lost of those that had time. */
  async lostDuring(netns: string, address: string, work: () => Promise<void>): Promise<number> {
    const options = ["-n", "-i", "0.02", address];
    const child = spawn("nsenter", [`--net=${netns}`, "ping", ...options], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
    const ended = new Promise((resolve) => child.once("close", resolve));
    try {
      await work();
    } finally {
      child.kill("SIGINT");
      await ended;
    }
    const answered = [...said.matchAll(/icmp_seq=(\d+) ttl/g)].map(([, seq]) => Number(seq));
    if (answered.length < 5) throw new Error(`there was no flow: ${said}`);
    return Math.max(...answered) - new Set(answered).size;
  }

  close(): void {
    for (const path of this.#pinned.toReversed()) deletePinnedNetns(path);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
