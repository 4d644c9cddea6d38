import type { WorkerAnswer, WorkerCall, WorkerLog } from "../../../shared/node/worker-calls.ts";
import type { GateSockets } from "./sockets.ts";
import type { SandboxId, SandboxStatus, TableChange } from "./port.ts";

/** What main thread and worker tell each other. */

/**
 * `start()` gives the thread's place in /proc; `serve(sandbox, kept sockets)`, `withdraw(id)`,
 * `check()`, `stop("keep" | "close")`, `ping()`; `hang(ms)` and `crash()` are for tests.
 */
export type ServingMethod =
  "start" | "serve" | "withdraw" | "check" | "stop" | "ping" | "hang" | "crash";

export type ToWorker =
  WorkerCall<ServingMethod> | { readonly kind: "change"; readonly changes: readonly TableChange[] };

export type FromWorker =
  | WorkerAnswer
  /** Made or adopted: from now on the main thread's to keep, to switch and to close. */
  | { readonly kind: "gate"; readonly id: SandboxId; readonly sockets: GateSockets }
  /** The worker does not use its sockets any more. */
  | { readonly kind: "closed"; readonly id: SandboxId }
  | { readonly kind: "status"; readonly status: SandboxStatus }
  | WorkerLog;

export interface WorkerOptions {
  /** Of `Counters`. */
  readonly counters: SharedArrayBuffer;
  /** Of `agent/kernel/nft/low-descriptors.ts`. */
  readonly reserve: SharedArrayBuffer;
  /** Every gate is looked at once in this time. */
  readonly checkMs: number;
  readonly holdMs: number;
}
