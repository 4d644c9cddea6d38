import type { WorkerAnswer, WorkerCall, WorkerLog } from "../../shared/node/worker-calls.ts";
import type { NetworkId } from "../../shared/ids.ts";
import type { Service } from "../core/balancing/service.ts";
import type { Client, ClientStatus } from "./port.ts";

/** What main thread and worker tell each other. */

/** `withdraw(id)`, `check()`, `crash()` of tests. */
export type TablesMethod = "withdraw" | "check" | "crash";

export type ToWorker =
  | WorkerCall<TablesMethod>
  | {
      readonly kind: "services";
      readonly network: NetworkId;
      readonly services: readonly Service[];
    }
  | { readonly kind: "serve"; readonly client: Client };

export type FromWorker =
  WorkerAnswer | { readonly kind: "status"; readonly status: ClientStatus } | WorkerLog;

export interface WorkerOptions {
  /** Of `Counters`. */
  readonly counters: SharedArrayBuffer;
  /** Of `agent/kernel/nft/low-descriptors.ts`. */
  readonly reserve: SharedArrayBuffer;
  /** Every table is looked at once in this time. */
  readonly checkMs: number;
}
