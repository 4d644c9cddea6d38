import { parentPort, workerData } from "node:worker_threads";
import { assert } from "../../shared/errors.ts";
import { giveBackMemory } from "../../shared/node/give-back-memory.ts";
import { answerCall } from "../../shared/node/worker-calls.ts";
import { reserveIn } from "../kernel/nft/low-descriptors.ts";
import { reserveDescriptors } from "../kernel/nft/nftables.ts";
import { ClientTables } from "./client-tables.ts";
import { Counters } from "./counters.ts";
import type { FromWorker, TablesMethod, ToWorker, WorkerOptions } from "./worker-protocol.ts";

/** The worker's side: all that writes. Imports no parser of messages or addresses: it is to be small. */

assert(parentPort !== null, "virtual addresses are written in a worker");
const port = parentPort;
const { counters, reserve, checkMs } = workerData as WorkerOptions;
const tell = (message: FromWorker): void => port.postMessage(message);
reserveIn(reserve);
reserveDescriptors();
giveBackMemory();
const tables = new ClientTables({ counters: new Counters(counters), checkMs, tell });

async function call(_id: number, method: TablesMethod, args: unknown[]): Promise<unknown> {
  switch (method) {
    case "withdraw":
      tables.withdraw(args[0] as string);
      return undefined;
    case "check":
      return tables.check();
    case "crash":
      process.exit(1);
  }
}

port.on("message", (message: ToWorker) => {
  if (message.kind === "services") tables.services(message.network, message.services);
  else if (message.kind === "serve") tables.serve(message.client);
  else answerCall(message, call, tell);
});
