import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { StatementSync } from "node:sqlite";
import { Crash } from "./crashing-store.ts";

const FILE_STEPS = [
  "writeFileSync",
  "renameSync",
  "linkSync",
  "openSync",
  "mkdirSync",
  "fsyncSync",
  "rmSync",
] as const;

/**
 * Runs it with a process that ends at its `at`-th step: before or after one of the calls that change
 * files or the database. From then on every such call does nothing and throws.
 * @returns how many steps there were
 */
export async function crashingFiles(at: number, run: () => Promise<unknown>): Promise<number> {
  let steps = 0;
  const step = (): void => {
    if (steps++ >= at) throw new Crash(`step ${at}`);
  };
  const undo: (() => void)[] = [];
  const around = <O extends object>(object: O, name: keyof O): void => {
    const original = object[name] as (...args: unknown[]) => unknown;
    undo.push(() => (object[name] = original as O[keyof O]));
    object[name] = function (this: unknown, ...args: unknown[]): unknown {
      step();
      const result = original.apply(this, args);
      step();
      return result;
    } as O[keyof O];
  };
  for (const name of FILE_STEPS) around(fs, name);
  around(StatementSync.prototype, "run");
  syncBuiltinESMExports();
  try {
    await run();
  } catch (error) {
    // Whatever it was made of on the way: nobody was left to hear it.
    if (steps <= at) throw error;
  } finally {
    for (const put of undo) put();
    syncBuiltinESMExports();
  }
  return steps;
}
