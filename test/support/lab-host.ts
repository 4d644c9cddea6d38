import { type ChildProcess, execFile, spawn } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { Finding } from "../../agent/api/verify.ts";
import type { Status } from "../../agent/api/status.ts";
import { callUnix } from "../../shared/node/unix-http.ts";
import { type EngineKind, engineRoot, enterEngineRoot } from "./engine-root.ts";
import { thawBelow } from "./thaw.ts";

const run = promisify(execFile);
/** Of every host: the switch. Nobody answers there, unless a test does (upstream-dns.ts). */
export const NAMESERVER = "198.51.100.254";
/** What Node compiled, of all labs: compiling it takes as long as a lab's first agent. */
export const COMPILED = join(
  process.env["OVERLAY_TS_LAB_CACHE"] ?? "/var/tmp/overlay-ts-lab-cache",
  "compiled",
);
const AGENT_SOCKET = "/run/overlay-ts/agent.sock";
/** The command, from this very checkout. */
export const OVERLAY_TS = join(import.meta.dirname, "../../deploy/overlay-ts");

/**
 * A host inside this machine: a network namespace made by the caller, and mount and PID namespaces
 * of its own, so that /run, /sys and every process of it (engine, containers, agent) are its own,
 * and all of them end when its first process does.
 */
export class LabHost {
  /** Of this process, for who tells what they wrote. */
  static readonly running = new Set<LabHost>();
  readonly name: string;
  readonly directory: string;
  readonly netns: string;
  /** Its command, agent and controller: another version's where that is tested. */
  program = OVERLAY_TS;
  #init: number;

  private constructor(name: string, directory: string, netns: string, init: number) {
    this.name = name;
    this.directory = directory;
    this.netns = netns;
    this.#init = init;
  }

  static async start(name: string, directory: string, netns: string): Promise<LabHost> {
    for (const folder of ["run", "log", "data", "docker", "tmp"])
      mkdirSync(join(directory, folder), { recursive: true });
    writeFileSync(join(directory, "resolv.conf"), `nameserver ${NAMESERVER}\n`);
    // Kept, as a machine keeps it when it is switched off.
    const machineId = join(directory, "machine-id");
    if (!existsSync(machineId)) writeFileSync(machineId, `${randomBytes(16).toString("hex")}\n`);
    const script = [
      "set -e",
      `[ ! -e /etc/machine-id ] || mount --bind "${machineId}" /etc/machine-id`,
      // Shared with the mount namespace that a newer engine has; see engine-root.ts.
      `mount --bind "${directory}/run" /run && mount --make-shared /run`,
      "mkdir -p /run/lock /run/docker/plugins",
      // Where it is a link into /run its target is not there any more.
      "names=$(readlink -m /etc/resolv.conf)",
      'case $names in /run/*) mkdir -p "$(dirname "$names")" && : >"$names";; esac',
      `mount --bind "${directory}/resolv.conf" "$names"`,
      "umount -R -l /sys && mount -t sysfs sysfs /sys",
      // As many hierarchies as the machine has: version 2, or 1 with each controller apart.
      'if [ "$1" = v2 ]; then mount -t cgroup2 cgroup2 /sys/fs/cgroup; else mount -t tmpfs tmpfs /sys/fs/cgroup; shift; for c in "$@"; do mkdir -p "/sys/fs/cgroup/$c"; mount -t cgroup -o "$c" cgroup "/sys/fs/cgroup/$c"; done; fi',
      "mount -t proc proc /proc",
      `hostname ${name}`,
      "echo ready",
      // As the first process of its PID namespace it reaps whoever loses its parent.
      "while :; do sleep 3600 & wait; done",
    ].join("\n");
    const child = spawn(
      "nsenter",
      [
        `--net=${netns}`,
        "unshare",
        "--mount",
        "--uts",
        "--pid",
        "--fork",
        "--kill-child",
        "--propagation",
        "private",
        "bash",
        "-c",
        script,
        "bash",
        ...cgroups(),
      ],
      { detached: true, stdio: ["ignore", "pipe", openSync(join(directory, "log/init.log"), "a")] },
    );
    await new Promise<void>((resolve, reject) => {
      const failed = (): void =>
        reject(new Error(readFileSync(join(directory, "log/init.log"), "utf8")));
      child.once("exit", failed);
      child.stdout?.once("data", () => {
        child.off("exit", failed);
        resolve();
      });
    });
    child.stdout?.destroy();
    child.unref();
    const init = await childOf(child.pid ?? 0);
    writeFileSync(join(directory, "init"), `${init} ${startTime(init)}`);
    const host = new LabHost(name, directory, netns, init);
    LabHost.running.add(host);
    return host;
  }

  /** One that another process started; undefined when it no longer runs. */
  static find(name: string, directory: string, netns: string): LabHost | undefined {
    const init = runningInit(directory);
    return init === undefined ? undefined : new LabHost(name, directory, netns, init);
  }

  /** Ends every process of a host, also of one that a crash left behind. */
  static async end(directory: string): Promise<void> {
    for (const host of LabHost.running)
      if (host.directory === directory) LabHost.running.delete(host);
    const init = runningInit(directory);
    if (init !== undefined) {
      thawBelow(init);
      try {
        process.kill(init, "SIGKILL");
      } catch {
        // It was about to end, and only waited for what was paused.
      }
      while (existsSync(`/proc/${init}`) && !isZombie(init)) await delay(20);
    }
    rmSync(join(directory, "init"), { force: true });
  }

  /** How to run something on this host. */
  argv(command: readonly string[]): [string, string[]] {
    const enter = [`--target=${this.#init}`, "--mount", "--net", "--pid", "--uts"];
    return ["nsenter", [...enter, "--", ...command]];
  }

  /** A path of this host's own mounts, seen from outside. */
  path(inside: string): string {
    return `/proc/${this.#init}/root${inside}`;
  }

  async exec(...command: string[]): Promise<string> {
    const [file, args] = this.argv(command);
    const { stdout } = await run(file, args, { maxBuffer: 64 << 20, env: this.env() });
    return stdout;
  }

  /** What it prints on both its streams. */
  async output(...command: string[]): Promise<string> {
    const [file, args] = this.argv(command);
    const { stdout, stderr } = await run(file, args, { maxBuffer: 64 << 20, env: this.env() });
    return stdout + stderr;
  }

  env(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      DOCKER_HOST: "unix:///run/docker.sock",
      OVERLAY_TS_DATA_DIR: join(this.directory, "data"),
      OVERLAY_TS_CACHE_DIR: COMPILED,
      TMPDIR: join(this.directory, "tmp"),
    };
  }

  /** A service of this host, its output in `log/<name>.log`; how it ended in `log/ended.log`. */
  service(name: string, ...command: string[]): ChildProcess {
    const log = openSync(join(this.directory, "log", `${name}.log`), "a");
    const [file, args] = this.argv(command);
    const child = spawn(file, args, {
      detached: true,
      stdio: ["ignore", log, log],
      env: this.env(),
    });
    child.once("exit", (code, signal) => {
      const how = signal ?? `exit code ${code}`;
      const line = `${new Date().toISOString()} ${name}: ${how}\n`;
      // With the host its directory goes, too.
      if (LabHost.running.has(this)) appendFileSync(join(this.directory, "log/ended.log"), line);
    });
    child.unref();
    return child;
  }

  docker(...args: string[]): Promise<string> {
    return this.exec(...this.withEngine("/usr/bin/docker", ...args));
  }

  /** What the engine is, whatever its kind is called: `28.5.2+dfsg3`. */
  async engineVersion(): Promise<string> {
    return (await this.docker("version", "-f", "{{.Server.Version}}")).trim();
  }

  /** Compose of the engine's Debian: 1.29 beside 20.10, 2 beside the newer ones. */
  compose(...args: string[]): Promise<string> {
    return this.exec(...this.withEngine("/usr/bin/docker-compose", ...args));
  }

  /** The command where the engine's own programs are. */
  withEngine(...command: string[]): string[] {
    return [...enterEngineRoot(this.directory), ...command];
  }

  /** A network made elsewhere has appeared on this engine. */
  async waitForNetwork(name: string): Promise<void> {
    await eventually(20_000, `network ${name} on ${this.name}`, () =>
      this.docker("network", "inspect", name),
    );
  }

  /** The command. Its start takes half a second of a processor: for what others than a person ask, there is `ask`. */
  overlay(...args: string[]): Promise<string> {
    return this.exec(this.program, ...args);
  }

  /** What the agent's socket says (agent/api/routes.ts): of `networks`, `endpoints?network=app` and so on. */
  ask<T = unknown>(what: string, method: "GET" | "POST" = "GET"): Promise<T> {
    return callUnix<T>(this.path(AGENT_SOCKET), method, `/v1/${what}`);
  }

  status(): Promise<Status> {
    return this.ask<Status>("status");
  }

  /** What kernel, Docker and tables do not agree on. */
  async findings(): Promise<Finding[]> {
    return (await this.ask<{ findings: Finding[] }>("verify")).findings;
  }

  /** @throws the findings, when there are any. */
  async agrees(): Promise<void> {
    const findings = await this.findings();
    if (findings.length > 0) throw new Error(`${this.name}: ${JSON.stringify(findings)}`);
  }

  startAgent(...options: string[]): ChildProcess {
    return this.service("agent", this.program, "agent", ...options);
  }

  startController(): ChildProcess {
    return this.service("controller", this.program, "controller");
  }

  /** Debian's engine, with everything of it in this host's directory. */
  async startEngine(kind: EngineKind, ...options: string[]): Promise<ChildProcess> {
    const root = await engineRoot(kind, dirname(this.directory), this.directory);
    if (root !== undefined && enterEngineRoot(this.directory).length === 0) {
      this.service("engine-root", ...root);
      await eventually(10_000, `the engine's root on ${this.name}`, async () => {
        if (enterEngineRoot(this.directory).length === 0) throw new Error(this.log("engine-root"));
      });
    }
    const child = this.service(
      "docker",
      ...this.withEngine("/usr/sbin/dockerd"),
      "--host=unix:///run/docker.sock",
      `--data-root=${join(this.directory, "docker")}`,
      "--exec-root=/run/docker",
      "--pidfile=/run/docker.pid",
      "--storage-driver=vfs",
      "--log-level=warn",
      ...options,
    );
    await eventually(60_000, `the engine of ${this.name}`, () => this.docker("version"));
    return child;
  }

  /** Ends the engine and its containerd; its containers end with it, or are left behind by SIGKILL. */
  async stopEngine(signal: "TERM" | "KILL"): Promise<void> {
    for (const file of ["/run/docker.pid", "/run/docker/containerd/containerd.pid"])
      await this.#stop(signal, `cat ${file} 2>/dev/null`);
  }

  /** Ends the agent or the controller, and waits for it. */
  async stopService(service: "agent" | "controller", signal: "TERM" | "KILL"): Promise<void> {
    const find = `for f in /proc/[0-9]*; do tr '\\0' ' ' <$f/cmdline 2>/dev/null | grep -q '/[s]tart\\.[tj]s ${service}' && basename $f; done`;
    await this.#stop(signal, find);
  }

  /** `find` prints ids of this host's own PID namespace. */
  async #stop(signal: string, find: string): Promise<void> {
    const script = `for p in $(${find}); do kill -${signal} "$p" 2>/dev/null; while [ -e "/proc/$p" ]; do sleep 0.1; done; done`;
    await this.exec("sh", "-c", script);
  }

  log(name: string): string {
    return readFileSync(join(this.directory, "log", `${name}.log`), "utf8");
  }
}

/** Three labs share two processors: what takes a second at rest may take some. */
const PATIENCE = 3;
/** What all of them need at once, a start of Node or of an engine, may take that long whatever is waited for. */
const LEAST_MS = 60_000;
/** Of why it was not there. */
const MOST_CHARACTERS = 1000;

/**
 * Again until it succeeds; the last failure is thrown after `PATIENCE` times the time it has on a machine at rest, and
 * not before `LEAST_MS`.
 */
export async function eventually<T>(
  timeoutMs: number,
  what: string,
  attempt: () => Promise<T>,
): Promise<T> {
  const begunMs = Date.now();
  const mostMs = Math.max(LEAST_MS, PATIENCE * timeoutMs);
  for (;;)
    try {
      return await attempt();
    } catch (cause) {
      const waitedMs = Date.now() - begunMs;
      // A report has the message alone.
      const why = cause instanceof Error ? cause.message.slice(0, MOST_CHARACTERS) : String(cause);
      if (waitedMs > mostMs) throw new Error(`${what} is not there in time: ${why}`, { cause });
      // Rarer with time: in a machine in software the asking itself holds up what is waited for.
      await delay(Math.min(Math.max(50, waitedMs / 20), 2000));
    }
}

function cgroups(): string[] {
  if (existsSync("/sys/fs/cgroup/cgroup.controllers")) return ["v2"];
  const lines = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  const mounted = lines.flatMap(
    (line) => / \/sys\/fs\/cgroup\/(\S+) .* - cgroup /.exec(line)?.[1] ?? [],
  );
  return ["v1", ...mounted.filter((name) => name !== "systemd")];
}

async function childOf(pid: number): Promise<number> {
  const file = `/proc/${pid}/task/${pid}/children`;
  return eventually(5000, "the host's first process", async () => {
    const child = Number(readFileSync(file, "utf8").trim().split(" ")[0]);
    if (!child) throw new Error("none yet");
    return child;
  });
}

function runningInit(directory: string): number | undefined {
  const file = join(directory, "init");
  if (!existsSync(file)) return undefined;
  const [pid, started] = readFileSync(file, "utf8").split(" ");
  // The same number may be another process by now.
  return startTime(Number(pid)) === started ? Number(pid) : undefined;
}

/** Field 22 of /proc/PID/stat: clock ticks since boot. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

function isZombie(pid: number): boolean {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return true;
  }
}
