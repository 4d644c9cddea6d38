import { Worker } from "node:worker_threads";
import { asFailure, type Failure } from "../../shared/errors.ts";
import type { NetworkId } from "../../shared/ids.ts";
import { backedOff, RetriedWork } from "../../shared/node/retried-work.ts";
import { threadFile } from "../../shared/node/thread-file.ts";
import { WorkerCalls } from "../../shared/node/worker-calls.ts";
import type { Log } from "../../shared/ports.ts";
import { Signal } from "../../shared/signal.ts";
import type { Service } from "../core/balancing/service.ts";
import { reserveMemory } from "../kernel/nft/low-descriptors.ts";
import { Counters } from "./counters.ts";
import { hasTable } from "./namespace-table.ts";
import type { Balancing, Client, ClientStatus, ServedAddress } from "./port.ts";
import type { FromWorker, TablesMethod, ToWorker, WorkerOptions } from "./worker-protocol.ts";

const CHECK_MS = 10_000;
/** A thousand services of a client are compared in fifteen seconds. */
const CALL_TIMEOUT_MS = 60_000;
const RESTART_MS = 100;
const RESTART_MOST_MS = 5000;

export interface LinuxBalancingOptions {
  readonly log: Log;
  /** For tests. */
  readonly checkMs?: number;
  /** Why no table is written is another now. */
  readonly failureChanged?: (failure: Failure | undefined) => void;
}

/**
 * The main thread's side of the worker that writes tables. It begins with the first service that a client has, or the first
 * table that an earlier agent left: a host without virtual addresses has no such thread. What is wanted is kept here, so that
 * the next worker hears all of it; what the tables are it finds in the kernel.
 */
export class LinuxBalancing implements Balancing {
  readonly changed = new Signal<[id: string]>();
  readonly #log: Log;
  readonly #checkMs: number;
  readonly #counters = new Counters();
  readonly #reserve = reserveMemory();
  readonly #services = new Map<NetworkId, { services: readonly Service[]; text: string }>();
  readonly #clients = new Map<string, { client: Client; status: ClientStatus }>();
  readonly #calls = new WorkerCalls<TablesMethod>("the thread of virtual addresses");
  readonly #retried: RetriedWork;
  #worker: Worker | undefined;
  #restart: NodeJS.Timeout | undefined;
  #restartMs = RESTART_MS;
  #stopped = false;

  constructor({ log, checkMs = CHECK_MS, failureChanged = () => {} }: LinuxBalancingOptions) {
    this.#log = log;
    this.#checkMs = checkMs;
    this.#retried = new RetriedWork(failureChanged);
  }

  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  services(network: NetworkId, services: readonly Service[]): void {
    const text = JSON.stringify(services);
    if (text === (this.#services.get(network)?.text ?? "[]")) return;
    if (services.length === 0) this.#services.delete(network);
    else this.#services.set(network, { services, text });
    this.#tell({ kind: "services", network, services });
    if (services.length > 0 && this.#clients.size > 0) this.#begin();
  }

  serve(client: Client): void {
    const { id } = client;
    const status = this.#clients.get(id)?.status;
    const idle: ClientStatus = { id, state: "idle", problem: undefined, served: [] };
    this.#clients.set(id, { client, status: status ?? idle });
    this.#tell({ kind: "serve", client });
    if (this.#services.size > 0 || hasTable(client.path)) this.#begin();
  }

  async withdraw(id: string): Promise<void> {
    const path = this.#clients.get(id)?.client.path;
    if (path === undefined) return;
    this.#clients.delete(id);
    try {
      await this.#call("withdraw", id);
    } catch (error) {
      this.#log.debug(
        { sandbox: id, err: error },
        "could not take a container's virtual addresses away; they end with it",
      );
    }
    this.changed.emit(id);
  }

  clients(): readonly ClientStatus[] {
    return [...this.#clients.values()].map(({ status }) => status);
  }

  served(id: string): readonly ServedAddress[] {
    return this.#clients.get(id)?.status.served ?? [];
  }

  async check(): Promise<readonly string[]> {
    return (await this.#call("check").catch(() => [])) as readonly string[];
  }

  counters(): Readonly<Record<string, number>> {
    return this.#counters.read();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#restart);
    await this.#worker?.terminate();
  }

  /** For tests: its thread ends. */
  async crash(): Promise<void> {
    await this.#call("crash").catch(() => {});
  }

  #begin(): void {
    if (this.#worker !== undefined || this.#restart !== undefined || this.#stopped) return;
    const options: WorkerOptions = {
      counters: this.#counters.memory,
      reserve: this.#reserve,
      checkMs: this.#checkMs,
    };
    const worker = new Worker(threadFile("balancing-worker", import.meta.url), {
      workerData: options,
      trackUnmanagedFds: false,
      // A leak ends the worker, not the agent.
      resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 2 },
    });
    this.#worker = worker;
    worker.on("message", (message: FromWorker) => this.#heard(message));
    worker.on("error", (error) => {
      this.#log.error({ err: error }, "the thread of virtual addresses failed; it starts again");
      this.#retried.went(notWritten(asFailure(error)));
    });
    worker.on("exit", () => this.#ended(worker));
    for (const [network, { services }] of this.#services)
      this.#tell({ kind: "services", network, services });
    for (const { client } of this.#clients.values()) this.#tell({ kind: "serve", client });
  }

  #ended(worker: Worker): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#calls.ended();
    if (this.#stopped) return;
    this.#counters.count("workersEnded");
    const waitMs = this.#restartMs;
    this.#restartMs = backedOff(waitMs, RESTART_MOST_MS);
    this.#restart = setTimeout(() => {
      this.#restart = undefined;
      this.#begin();
    }, waitMs);
  }

  #heard(message: FromWorker): void {
    switch (message.kind) {
      case "done":
      case "failed":
        this.#calls.answered(message);
        return;
      case "status": {
        this.#restartMs = RESTART_MS;
        this.#retried.went(undefined);
        const { status } = message;
        const known = this.#clients.get(status.id);
        if (known === undefined) return;
        const before = JSON.stringify(known.status);
        known.status = status;
        // A worker that begins finds what is there: until then it was as before.
        if (before !== JSON.stringify(status)) this.changed.emit(status.id);
        return;
      }
      case "log":
        this.#log[message.level](message.fields, message.message);
    }
  }

  #call(method: TablesMethod, ...args: unknown[]): Promise<unknown> {
    const post = this.#worker && ((call: ToWorker) => this.#tell(call));
    return this.#calls.call(post, method, args, CALL_TIMEOUT_MS);
  }

  #tell(message: ToWorker): void {
    this.#worker?.postMessage(message);
  }
}

function notWritten({ code, message, next }: Failure): Failure {
  return {
    code,
    message: `the tables of virtual addresses cannot be written: ${message}`,
    next: next ?? "those that are there stay as they are; if it stays so, restart overlay-ts-agent",
  };
}
