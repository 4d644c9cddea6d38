import { readlinkSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { assert } from "../../../shared/errors.ts";
import { giveBackMemory } from "../../../shared/node/give-back-memory.ts";
import { answerCall } from "../../../shared/node/worker-calls.ts";
import { reserveIn } from "../../kernel/nft/low-descriptors.ts";
import { reserveDescriptors } from "../../kernel/nft/nftables.ts";
import { Counters } from "./counters.ts";
import type { KeptSockets } from "./gate.ts";
import type { Sandbox, SandboxId } from "./port.ts";
import { Serving } from "./serving.ts";
import type { FromWorker, ServingMethod, ToWorker, WorkerOptions } from "./worker-protocol.ts";

/** The worker's side: all that answers. Imports no parser of messages or addresses: it is to be small. */

assert(parentPort !== null, "names are served in a worker");
const port = parentPort;
const { counters, reserve, checkMs, holdMs } = workerData as WorkerOptions;
const tell = (message: FromWorker): void => port.postMessage(message);
reserveIn(reserve);
const serving = new Serving({ counters: new Counters(counters), checkMs, holdMs, tell });

async function call(_id: number, method: ServingMethod, args: unknown[]): Promise<unknown> {
  switch (method) {
    case "start":
      reserveDescriptors();
      giveBackMemory();
      return readlinkSync("/proc/thread-self");
    case "ping":
      return undefined;
    case "serve":
      return serving.serve(args[0] as Sandbox, args[1] as KeptSockets | undefined);
    case "withdraw":
      return serving.withdraw(args[0] as SandboxId);
    case "check":
      return serving.check();
    case "stop":
      return serving.stop(args[0] as "keep" | "close");
    case "crash":
      process.exit(1);
    case "hang":
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, args[0] as number);
      return undefined;
  }
}

port.on("message", (message: ToWorker) => {
  if (message.kind === "change") serving.change(message.changes);
  else answerCall(message, call, tell);
});
