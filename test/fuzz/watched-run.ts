import { Worker } from "node:worker_threads";
import { corpusOf } from "./corpus.ts";
import { FuzzFailure, inputAt, type Report } from "./run.ts";
import type { Targets } from "./target.ts";

export interface WatchedRun {
  /** The module that has the target in its `TARGETS`. */
  readonly module: string;
  readonly name: string;
  readonly seed: number;
  readonly inputs: number;
  /** One input that takes longer hangs; the slowest of ours take some milliseconds. */
  readonly hangMs: number;
}

/** From the worker: how the run ended. */
export type Ended =
  | { readonly report: Report }
  | { readonly index: number; readonly message: string; readonly stack: string };

/** An input that wants more memory ends the worker. */
const LIMITS = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 32 };

/** A run in a thread that can be ended: an input may hang it or take all memory. @throws FuzzFailure */
export async function watchedRun(run: WatchedRun): Promise<Report> {
  const begun = new Int32Array(new SharedArrayBuffer(4)).fill(-1);
  const worker = new Worker(new URL("worker.ts", import.meta.url), {
    workerData: { run, begun },
    resourceLimits: LIMITS,
  });
  const { promise, resolve } = Promise.withResolvers<Ended>();
  const failed = (message: string, stack = ""): void =>
    resolve({ index: Atomics.load(begun, 0), message, stack });
  worker.on("message", resolve);
  worker.on("error", (error: Error) => failed(`${error.name}: ${error.message}`, error.stack));
  worker.on("exit", () => failed("the worker ended"));
  let last = -1;
  const watch = setInterval(() => {
    const now = Atomics.load(begun, 0);
    if (now >= 0 && now === last) failed(`hangs: more than ${run.hangMs} ms`);
    last = now;
  }, run.hangMs);
  const ended = await promise;
  clearInterval(watch);
  await worker.terminate();
  if ("report" in ended) return ended.report;
  const { TARGETS } = (await import(run.module)) as { TARGETS: Targets };
  const target = await TARGETS[run.name]!();
  const input = inputAt(target, corpusOf(run.name, target), run.seed, ended.index);
  await target.close?.();
  throw new FuzzFailure(ended.index, input, `${ended.message}\n${ended.stack}`);
}
