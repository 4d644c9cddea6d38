import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type GuestKind, makeInitramfs } from "./initramfs.ts";

/** Of Debian 12, 6.1, and of Debian 13, 6.12. */
export type KernelRelease = "bookworm" | "trixie";

const KERNEL_OF = join(import.meta.dirname, "../support/debian-kernel");
const DIRECTORY = "/var/tmp/overlay-ts-guest-";
/** Half a minute at rest. */
const BOOT_TIMEOUT_MS = 400_000;
/** Of one script, where its caller says no other. */
const SCRIPT_TIMEOUT_MS = 1_800_000;

const KERNEL_ARGUMENTS = [
  "console=ttyS0",
  "loglevel=4",
  "panic=-1",
  "mitigations=off",
  // On a busy machine the check of the timer fails, and the guest goes on with one that hardly runs.
  "no_timer_check",
  "apparmor=0",
  "audit=0",
  "systemd.unit=multi-user.target",
  "systemd.journald.forward_to_console=0",
];

interface Answer {
  readonly status: number;
  readonly output: string;
}

/** The machine is no longer there, or says nothing: of what was to be tried in it nothing is known. */
export class GuestLost extends Error {}

/**
 * A whole machine in software (QEMU without hardware help): a kernel of Debian, systemd as its first
 * process, this machine's root read-only below a disk of its own, and no network device at all.
 * The disk, and so what was installed, is kept over a reboot.
 */
export class Guest {
  readonly directory: string;
  readonly #process: ChildProcess;
  #line: Socket | undefined;
  #boot = "";
  #lastNumber = 0;
  readonly #asked = new Map<number, PromiseWithResolvers<Answer>>();

  private constructor(directory: string, process: ChildProcess) {
    this.directory = directory;
    this.#process = process;
    process.once("exit", () => this.#giveUp(ended()));
  }

  /** `prepare` puts files into its directory; the guest sees them at the same path. */
  static async start(
    prepare: (directory: string) => void,
    kind: GuestKind = "systemd",
    release: KernelRelease = "bookworm",
  ): Promise<Guest> {
    removeLeftovers();
    const kernel = execFileSync(KERNEL_OF, [release], { encoding: "utf8" }).trim();
    const directory = `${DIRECTORY}${process.pid}`;
    mkdirSync(directory);
    prepare(directory);
    const disk = kind === "systemd" ? [makeDisk(join(directory, "disk"))] : [];
    const initramfs = makeInitramfs(directory, kernel, kind);
    const output = openSync(join(directory, "qemu.log"), "a");
    const qemu = ["qemu-system-x86_64", ...qemuArguments(directory, kernel, disk, initramfs)];
    // The kernel ends it should this process die, however it dies.
    const child = spawn("setpriv", ["--pdeathsig", "KILL", ...qemu], {
      stdio: ["ignore", output, output],
      detached: true,
    });
    takeProcessors(child.pid);
    const guest = new Guest(directory, child);
    try {
      await guest.#connect();
      await guest.#booted("");
    } catch (error) {
      await guest.stop();
      throw error;
    }
    return guest;
  }

  /** Runs a bash script as root. @throws with its output when it fails, {@link try}. */
  async exec(script: string, timeoutMs?: number): Promise<string> {
    const { status, output } = await this.try(script, timeoutMs);
    if (status !== 0) throw new Error(`status ${status}: ${script}\n${output}`);
    return output.trim();
  }

  /** @throws GuestLost: no answer in time by this machine's clock, not the guest's; with what its console says last. */
  async try(script: string, timeoutMs = SCRIPT_TIMEOUT_MS): Promise<Answer> {
    const number = ++this.#lastNumber;
    // Whoever waits for a guest may look at what it does.
    appendFileSync(join(this.directory, "commands.log"), `${new Date().toISOString()} ${script}\n`);
    if (this.#hasEnded()) throw ended();
    const asked = Promise.withResolvers<Answer>();
    this.#asked.set(number, asked);
    this.#line?.write(`${number} ${Buffer.from(script).toString("base64")}\n`);
    const late = setTimeout(() => {
      this.#asked.delete(number);
      asked.reject(this.#failure(`no answer in ${timeoutMs / 1000} s`));
    }, timeoutMs);
    return asked.promise.finally(() => clearTimeout(late));
  }

  /** How long the guest's clock and this machine's took for the same, in seconds: a clock of software may not keep pace. */
  async clocks<T>(work: () => Promise<T>): Promise<{ result: T; inside: number; outside: number }> {
    const inside = async (): Promise<number> =>
      Number(await this.exec("cut -d' ' -f1 /proc/uptime"));
    const [from, fromMs] = [await inside(), performance.now()];
    const result = await work();
    return {
      result,
      inside: (await inside()) - from,
      outside: (performance.now() - fromMs) / 1000,
    };
  }

  async reboot(): Promise<void> {
    const before = this.#boot;
    // Its answer may not come any more: the line's other end goes down with the rest.
    this.try("systemctl --no-block reboot").catch(() => {});
    await this.#booted(before);
  }

  console(): string {
    return readFileSync(join(this.directory, "console.log"), "utf8");
  }

  #giveUp(error: Error): void {
    for (const { reject } of this.#asked.values()) reject(error);
    this.#asked.clear();
  }

  #failure(what: string): Error {
    return new GuestLost(`${what}; its console says last:\n${this.console().slice(-4000)}`);
  }

  /** Also by a signal. */
  #hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  async stop(): Promise<void> {
    if (!this.#hasEnded()) {
      const exited = new Promise((resolve) => this.#process.once("exit", resolve));
      this.#process.kill("SIGKILL");
      await exited;
    }
    this.#line?.destroy();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #connect(): Promise<void> {
    for (;;) {
      if (this.#hasEnded()) throw new Error(readFileSync(join(this.directory, "qemu.log"), "utf8"));
      const socket = connect(join(this.directory, "line"));
      const connected = await new Promise<boolean>((resolve) => {
        socket.once("connect", () => resolve(true));
        socket.once("error", () => resolve(false));
      });
      if (connected) {
        this.#line = socket;
        createInterface(socket).on("line", (line) => this.#heard(line));
        return;
      }
      await delay(50);
    }
  }

  #heard(line: string): void {
    const [word = "", second = "", third = ""] = line.split(" ");
    if (word === "ready") {
      this.#boot = second;
      // A kernel that panics starts again, too: what was asked before is never answered.
      this.#giveUp(this.#failure("the guest has started anew"));
      return;
    }
    const number = Number(word);
    const answer = { status: Number(second), output: Buffer.from(third, "base64").toString() };
    this.#asked.get(number)?.resolve(answer);
    this.#asked.delete(number);
  }

  async #booted(before: string): Promise<void> {
    const until = Date.now() + BOOT_TIMEOUT_MS;
    while (this.#boot === before) {
      if (this.#hasEnded() || Date.now() > until) throw this.#failure("the guest did not boot");
      await delay(100);
    }
  }
}

function ended(): Error {
  return new GuestLost("the guest has ended");
}

/** Of processes that were killed: their guests ended with them, their files did not. */
function removeLeftovers(): void {
  const parent = dirname(DIRECTORY);
  for (const name of readdirSync(parent)) {
    const directory = join(parent, name);
    if (!directory.startsWith(DIRECTORY)) continue;
    if (!existsSync(join("/proc", directory.slice(DIRECTORY.length))))
      rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * A guest whose processors wait falls behind far more than they wait: what one holds the other spins for, and what its
 * programs wait for is not there in time. The kernel shares processors between sessions (sched(7), autogroup), and
 * the guest has one of its own.
 */
function takeProcessors(pid: number | undefined): void {
  const file = `/proc/${pid}/autogroup`;
  if (existsSync(file)) writeFileSync(file, "-20");
}

function makeDisk(path: string): string {
  execFileSync("mke2fs", ["-q", "-t", "ext4", "-E", "lazy_itable_init=1,discard", path, "12G"], {
    env: { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
  });
  return path;
}

/** Two guests side by side have a processor each on a machine of two; the soak looks at what happens on several. */
const PROCESSORS = process.env["SOAK"] === undefined ? 1 : 2;

/** No device but what is named: there is no network. Wide vector instructions cost most in software. */
function qemuArguments(
  directory: string,
  kernel: string,
  disks: string[],
  initramfs: string,
): string[] {
  const boot = join(kernel, "boot");
  const vmlinuz = readdirSync(boot).find((name) => name.startsWith("vmlinuz-")) ?? "";
  return [
    "-nodefaults -no-user-config -display none -nic none",
    `-accel tcg,thread=multi -cpu Nehalem -smp ${PROCESSORS} -m 2048`,
    `-kernel ${join(boot, vmlinuz)} -initrd ${initramfs}`,
    ...disks.map((disk) => `-drive file=${disk},format=raw,if=virtio,cache=unsafe,discard=unmap`),
    "-virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
    `-chardev file,id=console,path=${join(directory, "console.log")} -serial chardev:console`,
    `-chardev socket,id=line,path=${join(directory, "line")},server=on,wait=off`,
    "-device virtio-serial-pci -device virtserialport,chardev=line,name=line",
    "-device virtio-rng-pci",
  ]
    .flatMap((line) => line.split(" "))
    .concat("-append", KERNEL_ARGUMENTS.join(" "));
}
