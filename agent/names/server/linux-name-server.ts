import { closeSync, readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { asFailure, type Failure, OverlayError } from "../../../shared/errors.ts";
import { WorkerCalls } from "../../../shared/node/worker-calls.ts";
import type { Log } from "../../../shared/ports.ts";
import { KeyedMutex } from "../../../shared/node/keyed-mutex.ts";
import { RetriedWork } from "../../../shared/node/retried-work.ts";
import { threadFile } from "../../../shared/node/thread-file.ts";
import { Counters } from "./counters.ts";
import type { KeptSockets } from "./gate.ts";
import { HangWatch } from "./hang-watch.ts";
import { HOLD_MS } from "./held-questions.ts";
import { reserveMemory } from "../../kernel/nft/low-descriptors.ts";
import type { NameServer, Sandbox, SandboxId, SandboxStatus, TableChange } from "./port.ts";
import { noKeeper, type SocketKeeper } from "./socket-keeper.ts";
import { raised, receiveState, setTransparent } from "./sockets.ts";
import { TableCopy } from "./table-copy.ts";
import type { FromWorker, ServingMethod, ToWorker, WorkerOptions } from "./worker-protocol.ts";

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 5000;
const RESTART_MS = 100;
const RESTART_MOST_MS = 5000;
/** What containers may wait for a thread that hangs before Docker's resolver answers them. */
const HUNG_MS = 300;
/** A thread that hangs was idle until then, so it is known after the sum of limit and pause at most. */
const LOOKS = { wellMs: 200, hungMs: 100 } as const;
/** A thread that does not come back is ended; its sockets are not. */
const END_HUNG_MS = 10_000;
/** Sockets of an earlier agent are given up when nobody asks for their sandbox. */
const ADOPTED_MS = 30_000;
const CHECK_MS = 30_000;
/** Containers on one host: 1,022 a network, and sockets are three descriptors each. */
const SANDBOXES = 4096;

export interface LinuxNameServerOptions {
  /** By name: `<sandbox>-u` and `<sandbox>-t`, the descriptors that an earlier agent left. */
  readonly adopted?: ReadonlyMap<string, number>;
  /** They collect questions so long without anybody who reads them; then Docker's resolver answers. */
  readonly patienceMs?: number | undefined;
  readonly keeper?: SocketKeeper;
  /** Every gate is looked at once in this time. */
  readonly checkMs?: number;
  /** A question about a name that may come waits so long. */
  readonly holdMs?: number;
  /** Adopted sockets that nobody asks for are given up after it. */
  readonly adoptedMs?: number;
}

interface Wanted {
  sandbox: Sandbox;
  status: SandboxStatus;
  /** This worker has been told to serve it, and has its sockets. */
  told: boolean;
}

/**
 * Names served in a worker thread; see README.md. This side decides nothing about names. It owns the
 * sockets, so that they outlive the worker, and switches them off while the worker does not answer.
 */
export class LinuxNameServer implements NameServer {
  readonly #log: Log;
  readonly #keeper: SocketKeeper;
  readonly #checkMs: number;
  readonly #holdMs: number;
  readonly #patienceMs: number;
  readonly #adoptedMs: number;
  readonly #counters = new Counters();
  readonly #reserve = reserveMemory();
  readonly #calls = new WorkerCalls<ServingMethod>("the name server");
  readonly #table = new TableCopy();
  readonly #wanted = new Map<SandboxId, Wanted>();
  /** Everything that is open and ours, adopted and not asked for yet included. */
  readonly #sockets = new Map<SandboxId, KeptSockets>();
  readonly #adopted = new Set<SandboxId>();
  readonly #turns = new KeyedMutex<SandboxId>();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #retried: RetriedWork;
  #closedDrops = 0;
  #worker: Worker | undefined;
  #watch: HangWatch | undefined;
  /** Until the next look at the worker; undefined: nobody is served, or there is none. */
  #looking: NodeJS.Timeout | undefined;
  /** `<process>/task/<thread>` in /proc. */
  #thread = "";
  #asked = false;
  #letGo = false;
  #restartMs = RESTART_MS;
  #stopped = false;

  constructor(
    {
      adopted = new Map(),
      patienceMs = 0,
      keeper = noKeeper,
      checkMs = CHECK_MS,
      holdMs = HOLD_MS,
      adoptedMs = ADOPTED_MS,
    }: LinuxNameServerOptions,
    log: Log,
  ) {
    this.#log = log;
    this.#keeper = keeper;
    this.#checkMs = checkMs;
    this.#holdMs = holdMs;
    this.#patienceMs = patienceMs;
    this.#adoptedMs = adoptedMs;
    this.#retried = new RetriedWork((failure) => {
      if (failure !== undefined)
        log.error({ ...failure }, "name server could not be started; tried again");
    });
    this.#adopt(adopted);
  }

  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  async start(): Promise<void> {
    this.#later(this.#patienceMs, () => {
      for (const id of this.#adopted) this.#switch(this.#sockets.get(id), false);
    });
    this.#later(this.#adoptedMs, () => {
      for (const id of this.#adopted) this.#forget(id, "adoptedReleased");
    });
    await this.#begin();
  }

  change(changes: readonly TableChange[]): void {
    this.#table.change(changes);
    this.#post({ kind: "change", changes });
  }

  async serve(sandbox: Sandbox): Promise<void> {
    const { id } = sandbox;
    const known = this.#wanted.get(id);
    if (known === undefined && this.#wanted.size >= SANDBOXES)
      throw new OverlayError({
        code: "FULL",
        message: `names are served for ${SANDBOXES} containers already`,
        next: "this one has Docker's own names; run fewer containers on this host",
      });
    const status = known?.status ?? { id, state: "waiting", problem: undefined };
    this.#wanted.set(id, { sandbox, status, told: known?.told ?? false });
    this.#adopted.delete(id);
    await this.#tellToServe(id);
  }

  async withdraw(id: SandboxId): Promise<void> {
    this.#wanted.delete(id);
    this.#adopted.delete(id);
    await this.#turns.run(id, async () => {
      try {
        await this.#call("withdraw", id);
      } catch (error) {
        this.#log.debug(
          { sandbox: id, err: error },
          "could not withdraw a container's names through the thread; its sockets are closed here",
        );
      }
      // What no worker had, or has any more.
      this.#forget(id);
    });
  }

  sandboxes(): Promise<readonly SandboxStatus[]> {
    const problem =
      this.#worker === undefined ? "starting again" : this.#letGo ? "does not answer" : undefined;
    const all = [...this.#wanted.values()].map(({ status }) =>
      problem === undefined || status.state !== "serving"
        ? status
        : { ...status, state: "failed" as const, problem },
    );
    return Promise.resolve(all);
  }

  async check(): Promise<readonly SandboxId[]> {
    // Without a worker `sandboxes` says so of each.
    return (await this.#call("check").catch(() => [])) as readonly SandboxId[];
  }

  counters(): Promise<Readonly<Record<string, number>>> {
    let kernelDrops = this.#closedDrops;
    for (const { udp } of this.#sockets.values()) kernelDrops += receiveState(udp).drops;
    return Promise.resolve({ ...this.#counters.read(), kernelDrops });
  }

  owesSinceMs(): number | undefined {
    return this.#letGo ? this.#watch?.aliveMs : undefined;
  }

  async stop(next: "handOver" | "letGo"): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
    clearTimeout(this.#looking);
    const keeps = next === "handOver" && this.#keeper.keeps;
    if (!keeps) this.#switchAll(false);
    const drained = this.#send(STOP_TIMEOUT_MS, "stop", keeps ? "keep" : "close");
    await drained.catch((error: unknown) =>
      this.#log.warn(
        { err: error },
        "the name server did not end in time; questions under way get no answer",
      ),
    );
    await this.#worker?.terminate();
    if (!keeps) for (const id of this.#sockets.keys()) this.#forget(id);
  }

  /** For tests: its thread ends. */
  async crash(): Promise<void> {
    await this.#call("crash").catch(() => {});
  }

  /** For tests: as if it did not come round for so long. */
  hang(ms: number): void {
    this.#call("hang", ms).catch(() => {});
  }

  async #begin(): Promise<void> {
    const options: WorkerOptions = {
      counters: this.#counters.memory,
      reserve: this.#reserve,
      checkMs: this.#checkMs,
      holdMs: this.#holdMs,
    };
    const worker = new Worker(threadFile("names-worker", import.meta.url), {
      workerData: options,
      // Sockets are closed by who owns them: this side.
      trackUnmanagedFds: false,
      // A host's names are some megabytes; a leak ends the worker, not the agent.
      resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 2 },
    });
    this.#worker = worker;
    worker.on("message", (message: FromWorker) => this.#heard(message));
    worker.on("error", (error) =>
      this.#log.error({ err: error }, "the name server's thread failed; it starts again"),
    );
    worker.on("exit", () => this.#ended(worker));
    this.#thread = (await this.#send(START_TIMEOUT_MS, "start")) as string;
    this.#watch = new HangWatch(HUNG_MS, LOOKS, performance.now());
    this.#asked = false;
    this.#lookOn();
    this.#post({ kind: "change", changes: this.#table.whole() });
    await Promise.all([...this.#wanted.keys()].map((id) => this.#tellToServe(id)));
  }

  #ended(worker: Worker): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#watch = undefined;
    this.#letGo = false;
    for (const wanted of this.#wanted.values()) wanted.told = false;
    this.#calls.ended();
    if (this.#stopped) return;
    this.#counters.count("workersEnded");
    this.#switchAll(false);
    const waitMs = this.#restartMs;
    this.#restartMs = Math.min(2 * waitMs, RESTART_MOST_MS);
    this.#later(waitMs, () => void this.#again());
  }

  async #again(): Promise<void> {
    try {
      await this.#begin();
      this.#restartMs = RESTART_MS;
      this.#log.warn({ sandboxes: this.#wanted.size }, "name server started again");
      this.#retried.went(undefined);
    } catch (error) {
      this.#retried.went(notStarted(asFailure(error)));
      await this.#worker?.terminate();
    }
  }

  /** Without a worker it is told to the next one. */
  #tellToServe(id: SandboxId): Promise<void> {
    return this.#turns.run(id, async () => {
      const wanted = this.#wanted.get(id);
      if (wanted === undefined) return;
      // Only once: what it has had may be closed by now.
      const kept = wanted.told ? undefined : this.#sockets.get(id);
      wanted.told = this.#worker !== undefined;
      try {
        await this.#call("serve", wanted.sandbox, kept);
      } catch (error) {
        if (!(error instanceof OverlayError) || error.code !== "UNREACHABLE") throw error;
      }
    });
  }

  #heard(message: FromWorker): void {
    switch (message.kind) {
      case "done":
      case "failed":
        this.#calls.answered(message);
        return;
      case "gate": {
        const { id, sockets } = message;
        const before = this.#sockets.get(id);
        this.#sockets.set(id, sockets);
        this.#lookOn();
        if (before?.udp === sockets.udp) return;
        this.#keeper.keep(`${id}-u`, sockets.udp);
        this.#keeper.keep(`${id}-t`, sockets.tcp);
        return;
      }
      case "closed":
        this.#forget(message.id);
        return;
      case "status": {
        const wanted = this.#wanted.get(message.status.id);
        if (wanted !== undefined) wanted.status = message.status;
        return;
      }
      case "log":
        this.#log[message.level](message.fields, message.message);
    }
  }

  #lookOn(): void {
    const watch = this.#watch;
    if (watch === undefined || this.#sockets.size === 0 || this.#stopped) return;
    this.#looking ??= setTimeout(() => {
      this.#looking = undefined;
      this.#look();
      this.#lookOn();
    }, watch.pauseMs);
  }

  /** The switch that needs nobody: while it is off the kernel leaves questions to Docker's resolver. */
  #look(): void {
    const worker = this.#worker;
    if (worker === undefined || this.#watch === undefined || this.#sockets.size === 0) return;
    const { idle } = worker.performance.eventLoopUtilization();
    const nowMs = performance.now();
    const seen = this.#watch.look(idle, this.#delayedMs(), nowMs);
    if (seen === "well") this.#comesRound();
    else if (!this.#asked) this.#ask();
    if (seen !== "hung") return;
    if (!this.#letGo) {
      this.#letGo = true;
      this.#switchAll(false);
      this.#counters.count("watchdogLetGo");
      this.#log.error(
        { sandboxes: this.#wanted.size },
        "name server hung; Docker's resolver takes over",
      );
    }
    if (nowMs - this.#watch.aliveMs > END_HUNG_MS) void worker.terminate();
  }

  /** The second of /proc/PID/schedstat, in nanoseconds (Documentation/scheduler/sched-stats.rst). */
  #delayedMs(): number {
    try {
      const [, waited] = readFileSync(`/proc/${this.#thread}/schedstat`, "utf8").split(" ");
      return Number(waited) / 1e6;
    } catch {
      return 0;
    }
  }

  #ask(): void {
    this.#asked = true;
    const watch = this.#watch;
    const answered = (): void => {
      if (this.#watch !== watch) return;
      this.#asked = false;
      watch?.answered(performance.now());
      this.#comesRound();
    };
    this.#call("ping")
      .then(answered)
      .catch(() => {});
  }

  #comesRound(): void {
    if (!this.#letGo) return;
    this.#letGo = false;
    this.#log.info({}, "name server answers again");
    for (const [id, sockets] of this.#sockets)
      if (!this.#adopted.has(id)) this.#switch(sockets, true);
  }

  #adopt(adopted: ReadonlyMap<string, number>): void {
    for (const [name, fd] of adopted) {
      const [, id, what] = /^([0-9a-f]{12})-([ut])$/.exec(name) ?? [];
      const other = what === "u" ? adopted.get(`${id}-t`) : adopted.get(`${id}-u`);
      if (id === undefined || other === undefined) {
        this.#keeper.release(name);
        this.#switchSocket(fd, false);
        closeSync(fd);
        this.#counters.count("adoptedReleased");
      } else if (what === "u") {
        this.#sockets.set(id as SandboxId, { udp: raised(fd), tcp: raised(other) });
        this.#adopted.add(id as SandboxId);
      }
    }
  }

  /** Closes what there is of it. */
  #forget(id: SandboxId, counted?: "adoptedReleased"): void {
    const sockets = this.#sockets.get(id);
    this.#adopted.delete(id);
    if (sockets === undefined) return;
    this.#sockets.delete(id);
    if (counted !== undefined) this.#counters.count(counted);
    for (const name of [`${id}-u`, `${id}-t`]) this.#keeper.release(name);
    const { udp, tcp, raw } = sockets;
    this.#switch(sockets, false);
    try {
      this.#closedDrops += receiveState(udp).drops;
    } catch {
      // Not a socket: what was adopted was said to be one.
    }
    for (const fd of [udp, tcp, raw]) if (fd !== undefined) closeSync(fd);
  }

  #switchAll(on: boolean): void {
    for (const sockets of this.#sockets.values()) this.#switch(sockets, on);
  }

  #switch(sockets: KeptSockets | undefined, on: boolean): void {
    if (sockets === undefined) return;
    for (const fd of [sockets.udp, sockets.tcp]) this.#switchSocket(fd, on);
  }

  #switchSocket(fd: number, on: boolean): void {
    try {
      setTransparent(fd, on);
    } catch (error) {
      this.#log.warn(
        { err: error },
        "could not make a container's DNS socket transparent, or stop that",
      );
    }
  }

  /** Until it is answered or the worker ends: one that hangs is ended. */
  #call(method: ServingMethod, ...args: unknown[]): Promise<unknown> {
    return this.#send(undefined, method, ...args);
  }

  #send(timeoutMs: number | undefined, method: ServingMethod, ...args: unknown[]) {
    const post = this.#worker && ((call: ToWorker) => this.#post(call));
    return this.#calls.call(post, method, args, timeoutMs);
  }

  #post(message: ToWorker): void {
    this.#worker?.postMessage(message);
  }

  #later(ms: number, run: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      run();
    }, ms);
    this.#timers.add(timer);
  }
}

function notStarted({ code, message, next }: Failure): Failure {
  return {
    code,
    message: `the name server cannot be started: ${message}`,
    next:
      next ??
      "containers have Docker's own names meanwhile; if it stays so, restart overlay-ts-agent",
  };
}
