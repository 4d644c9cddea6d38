import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
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
const BOOT_TIMEOUT_MS = 300_000;

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
  readonly #asked = new Map<number, (answer: Answer) => void>();

  private constructor(directory: string, process: ChildProcess) {
    this.directory = directory;
    this.#process = process;
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
    // It takes what the tests beside it leave; the kernel ends it should this process die, however it dies.
    const child = spawn(
      "nice",
      [
        "-n",
        "19",
        "setpriv",
        "--pdeathsig",
        "KILL",
        "qemu-system-x86_64",
        ...qemuArguments(directory, kernel, disk, initramfs),
      ],
      { stdio: ["ignore", output, output] },
    );
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

  /** Runs a bash script as root. @throws with its output when it fails. */
  async exec(script: string): Promise<string> {
    const { status, output } = await this.try(script);
    if (status !== 0) throw new Error(`status ${status}: ${script}\n${output}`);
    return output.trim();
  }

  try(script: string): Promise<Answer> {
    const number = ++this.#lastNumber;
    // Whoever waits for a guest may look at what it does.
    appendFileSync(join(this.directory, "commands.log"), `${new Date().toISOString()} ${script}\n`);
    return new Promise((resolve, reject) => {
      if (this.#process.exitCode !== null) reject(new Error("the guest has ended"));
      this.#asked.set(number, resolve);
      this.#line?.write(`${number} ${Buffer.from(script).toString("base64")}\n`);
    });
  }

  async reboot(): Promise<void> {
    const before = this.#boot;
    // Its answer may not come any more: the line's other end goes down with the rest.
    void this.try("systemctl --no-block reboot");
    await this.#booted(before);
  }

  console(): string {
    return readFileSync(join(this.directory, "console.log"), "utf8");
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = new Promise((resolve) => this.#process.once("exit", resolve));
      this.#process.kill("SIGKILL");
      await ended;
    }
    this.#line?.destroy();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #connect(): Promise<void> {
    for (;;) {
      if (this.#process.exitCode !== null)
        throw new Error(readFileSync(join(this.directory, "qemu.log"), "utf8"));
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
      this.#asked.clear();
      return;
    }
    const number = Number(word);
    const answer = { status: Number(second), output: Buffer.from(third, "base64").toString() };
    this.#asked.get(number)?.(answer);
    this.#asked.delete(number);
  }

  async #booted(before: string): Promise<void> {
    const until = Date.now() + BOOT_TIMEOUT_MS;
    while (this.#boot === before) {
      if (this.#process.exitCode !== null || Date.now() > until)
        throw new Error(`the guest did not boot:\n${this.console().slice(-4000)}`);
      await delay(100);
    }
  }
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

function makeDisk(path: string): string {
  execFileSync("mke2fs", ["-q", "-t", "ext4", "-E", "lazy_itable_init=1,discard", path, "12G"], {
    env: { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
  });
  return path;
}

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
    "-accel tcg,thread=multi -cpu Nehalem -smp 2 -m 2048",
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
