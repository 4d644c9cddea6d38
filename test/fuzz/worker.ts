import { parentPort, workerData } from "node:worker_threads";
import { assert } from "../../shared/errors.ts";
import { corpusOf } from "./corpus.ts";
import { FuzzFailure, run } from "./run.ts";
import type { Targets } from "./target.ts";
import type { Ended, WatchedRun } from "./watched-run.ts";

assert(parentPort !== null, "a run is in a worker");
const port = parentPort;
const { run: asked, begun } = workerData as { run: WatchedRun; begun: Int32Array };

function tell(how: Ended): void {
  port.postMessage(how);
}

async function ended(): Promise<Ended> {
  const { TARGETS } = (await import(asked.module)) as { TARGETS: Targets };
  const target = await TARGETS[asked.name]!();
  try {
    const began = (index: number): number => Atomics.store(begun, 0, index);
    return { report: await run(target, corpusOf(asked.name, target), asked, began) };
  } catch (error) {
    if (!(error instanceof FuzzFailure)) throw error;
    const { index, message, cause } = error;
    return { index, message, stack: cause instanceof Error ? (cause.stack ?? "") : "" };
  } finally {
    await target.close?.();
  }
}

tell(await ended());
