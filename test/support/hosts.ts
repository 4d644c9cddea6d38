import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { eventually } from "./lab-host.ts";
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

  /** A frame to host `k`, as the switch would send it. */
  deliver(k: number, frame: Buffer): void {
    const file = join(this.directory, "frame");
    writeFileSync(file, frame);
    this.in(join(this.directory, "switch"), `socat -u OPEN:${file} INTERFACE:p${k}`);
  }

  /** Whoever connects over TCP is told from which address. @returns ends it */
  serve(netns: string, port: number): () => void {
    const children = ([4, 6] as const).map((family) => {
      const listen = `TCP${family}-LISTEN:${port},fork,reuseaddr${family === 6 ? ",ipv6only" : ""}`;
      const command = ["socat", listen, "SYSTEM:echo $SOCAT_PEERADDR"];
      return spawn("nsenter", [`--net=${netns}`, ...command], { stdio: "ignore" });
    });
    return () => {
      for (const child of children) child.kill();
    };
  }

  /** Answers received of `count` echo requests, ICMP; 0 also when ping fails. */
  async ping(netns: string, address: string, ...options: string[]): Promise<number> {
    const command = ["ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", ...options, address];
    const { stdout } = await run("nsenter", [`--net=${netns}`, ...command]).catch(
      (error: { stdout?: string }) => ({ stdout: error.stdout ?? "" }),
    );
    return Number(/(\d+) received/.exec(stdout)?.[1] ?? 0);
  }

  close(): void {
    for (const path of this.#pinned.toReversed()) deletePinnedNetns(path);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/**
 * Echo requests, fifty times a second unless it says otherwise, from before the first of `rounds` until
 * after the last, and until enough were answered; how many were lost before the last answer.
 */
export async function lostDuring(
  netns: string,
  address: string,
  rounds: readonly (() => Promise<void>)[],
  everySeconds = 0.02,
): Promise<number> {
  const ping = ["ping", "-n", "-i", String(everySeconds), address];
  const child = spawn("nsenter", [`--net=${netns}`, ...ping], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = new Promise((resolve) => child.once("close", resolve));
  const answered = new Set<number>();
  createInterface(child.stdout).on("line", (line) => {
    const seq = /icmp_seq=(\d+) ttl/.exec(line)?.[1];
    if (seq !== undefined) answered.add(Number(seq));
  });
  const more = (): Promise<void> => {
    const wanted = answered.size + 5;
    return eventually(20_000, `answers of ${address}`, async () => {
      if (answered.size < wanted) throw new Error(`${answered.size} so far`);
    });
  };
  try {
    await more();
    for (const round of rounds) {
      await round();
      await more();
    }
  } finally {
    child.kill("SIGINT");
    await ended;
  }
  return Math.max(...answered) - answered.size;
}
