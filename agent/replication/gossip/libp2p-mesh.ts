import { Worker } from "node:worker_threads";
import type { ControlChannel, ControllerAddress } from "../../../controller/wire/channel.ts";
import { asFailure, type Failure } from "../../../shared/errors.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { WorkerCalls } from "../../../shared/node/worker-calls.ts";
import type { Log } from "../../../shared/ports.ts";
import { RetriedWork } from "../../../shared/node/retried-work.ts";
import { threadFile } from "../../../shared/node/thread-file.ts";
import type { Admission, Mesh, MeshHandlers, MeshOptions, MeshPeer, OtherVersion } from "./port.ts";
import type { FromWorker, MeshMethod, ToWorker } from "./worker-protocol.ts";

const CALL_TIMEOUT_MS = 15_000;
/** All of libp2p is loaded first: a small machine under load must get to the end of it. */
const START_TIMEOUT_MS = 120_000;
const RESTART_MS = 1000;

/**
 * The mesh in a worker thread of its own: its heartbeats and cryptography delay neither Docker nor
 * netlink. Should the worker die it is made anew, and told again what it was told before.
 */
export class Libp2pMesh implements Mesh {
  readonly #options: MeshOptions;
  readonly #log: Log;
  readonly #calls = new WorkerCalls<MeshMethod>("the mesh");
  readonly #connected = new Set<NodeId>();
  readonly #topics = new Map<string, Uint8Array | undefined>();
  readonly #watches = new Map<number, (bytes: Uint8Array) => void>();
  /** The line to the controller: there is one libp2p, and it is in the worker. */
  readonly control: ControlChannel = {
    exchange: async (to, request, timeoutMs) =>
      // It has a time limit of its own, in the worker.
      (await this.#send(
        "exchange",
        [to, request, timeoutMs],
        timeoutMs + CALL_TIMEOUT_MS,
      )) as Awaited<ReturnType<ControlChannel["exchange"]>>,
    watch: (to, heard, signal) => this.#watch(to, heard, signal),
    close: () => Promise.resolve(),
  };
  #admission: Admission | undefined;
  #wanted: readonly MeshPeer[] = [];
  #handlers: MeshHandlers | undefined;
  #worker: Worker | undefined;
  #restart: NodeJS.Timeout | undefined;
  #started = false;
  #pingedMs: number | undefined;
  #stopped = false;
  readonly #retried: RetriedWork;

  constructor(options: MeshOptions, log: Log) {
    this.#options = options;
    this.#log = log;
    this.#retried = new RetriedWork((failure) => {
      if (failure !== undefined)
        log.error(
          { ...failure },
          "the mesh did not start, so other hosts are not heard; tried again",
        );
    });
  }

  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  async start(handlers: MeshHandlers): Promise<void> {
    this.#handlers = handlers;
    await this.#begin();
  }

  admit(admission: Admission): void {
    this.#admission = admission;
    this.#tell("admit", admission);
  }

  wantPeers(peers: readonly MeshPeer[]): void {
    this.#wanted = peers;
    this.#tell("wantPeers", peers);
  }

  async join(topic: string, key: Uint8Array | undefined): Promise<void> {
    this.#topics.set(topic, key);
    await this.#call("join", topic, key);
  }

  async leave(topic: string): Promise<void> {
    this.#topics.delete(topic);
    await this.#call("leave", topic);
  }

  async publish(topic: string, bytes: Uint8Array): Promise<void> {
    await this.#call("publish", topic, bytes);
  }

  async request(node: NodeId, bytes: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    return (await this.#call("request", node, bytes, timeoutMs)) as Uint8Array;
  }

  connections(): NodeId[] {
    return [...this.#connected];
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    return (await this.#call("counters")) as Record<string, number>;
  }

  async otherVersions(): Promise<readonly OtherVersion[]> {
    return (await this.#call("otherVersions")) as OtherVersion[];
  }

  /** Asks the worker for a sign of life when it owes none. */
  owesSinceMs(): number | undefined {
    if (this.#started && this.#pingedMs === undefined) {
      this.#pingedMs = performance.now();
      const answered = (): void => {
        this.#pingedMs = undefined;
      };
      // Without a time limit: a worker that ended owes nothing, one that hangs does. (The start has one.)
      this.#send("ping", [], undefined).then(answered, answered);
    }
    return this.#pingedMs;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#restart);
    const worker = this.#worker;
    if (worker === undefined) return;
    await this.#call("stop").catch(() => {});
    await worker.terminate();
  }

  /** For tests: as if it had crashed. */
  async crash(): Promise<void> {
    await this.#worker?.terminate();
  }

  async #begin(): Promise<void> {
    const worker = new Worker(threadFile("mesh-worker", import.meta.url), {
      workerData: this.#options,
      // Ten times what an idle mesh uses; a leak ends the worker, not the agent.
      resourceLimits: { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 4 },
    });
    this.#worker = worker;
    worker.on("message", (message: FromWorker) => this.#heard(message));
    worker.on("error", (error) =>
      this.#log.error({ err: error }, "the mesh's thread failed; it starts again"),
    );
    worker.on("exit", () => this.#ended(worker));
    await this.#send("start", [], START_TIMEOUT_MS);
    this.#started = true;
  }

  #ended(worker: Worker): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#started = false;
    this.#calls.ended();
    for (const node of this.#connected) this.#handlers?.disconnected(node);
    this.#connected.clear();
    if (!this.#stopped) this.#restart = setTimeout(() => void this.#again(), RESTART_MS);
  }

  async #again(): Promise<void> {
    try {
      await this.#begin();
      this.#log.warn({}, "mesh started again");
      if (this.#admission !== undefined) this.#tell("admit", this.#admission);
      for (const [topic, key] of this.#topics) await this.#call("join", topic, key);
      this.#tell("wantPeers", this.#wanted);
      this.#retried.went(undefined);
    } catch (error) {
      this.#retried.went(notStarted(asFailure(error)));
      await this.#worker?.terminate();
    }
  }

  #heard(message: FromWorker): void {
    switch (message.kind) {
      case "done":
      case "failed":
        this.#calls.answered(message);
        return;
      case "watched":
        this.#watches.get(message.id)?.(message.bytes);
        return;
      case "message":
        this.#handlers?.message(message.topic, message.from, message.bytes);
        return;
      case "connected":
        this.#connected.add(message.node);
        this.#handlers?.connected(message.node);
        return;
      case "disconnected":
        this.#connected.delete(message.node);
        this.#handlers?.disconnected(message.node);
        return;
      case "request":
        void this.#answer(message.id, message.from, message.bytes);
    }
  }

  async #answer(id: number, from: NodeId, request: Uint8Array): Promise<void> {
    let bytes: Uint8Array | undefined;
    try {
      bytes = await this.#handlers?.request(from, request);
    } catch (error) {
      this.#log.debug({ from, err: error }, "request of a host refused");
    }
    this.#post({ kind: "answer", id, bytes });
  }

  /** Ends with the stream, with the worker, or with `signal`: no time limit of its own. */
  async #watch(
    to: ControllerAddress,
    heard: (bytes: Uint8Array) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const id = this.#calls.nextId;
    this.#watches.set(id, heard);
    const stop = (): void => this.#tell("unwatch", id);
    signal.addEventListener("abort", stop, { once: true });
    try {
      await this.#send("watch", [to], undefined);
    } finally {
      signal.removeEventListener("abort", stop);
      this.#watches.delete(id);
    }
  }

  #tell(method: MeshMethod, ...args: unknown[]): void {
    this.#call(method, ...args).catch((error: unknown) =>
      this.#log.debug({ method, err: error }, "could not tell the mesh's thread"),
    );
  }

  #call(method: MeshMethod, ...args: unknown[]): Promise<unknown> {
    return this.#send(method, args, CALL_TIMEOUT_MS);
  }

  #send(method: MeshMethod, args: unknown[], timeoutMs: number | undefined): Promise<unknown> {
    const post = this.#worker && ((call: ToWorker) => this.#post(call));
    return this.#calls.call(post, method, args, timeoutMs);
  }

  #post(message: ToWorker): void {
    this.#worker?.postMessage(message);
  }
}

function notStarted({ code, message, next }: Failure): Failure {
  return {
    code,
    message: `the mesh cannot be started, and this host hears of no other: ${message}`,
    next: next ?? "it is tried again every second; if that does not help, restart overlay-ts-agent",
  };
}
