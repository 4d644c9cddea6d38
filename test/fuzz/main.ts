import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { FuzzFailure, type Report } from "./run.ts";
import { TARGETS } from "./targets.ts";
import { watchedRun } from "./watched-run.ts";

/**
 * `npm run fuzz -- [--target NAME] [--inputs N] [--seed N]`, and `--target NAME --input FILE` for one input
 * again. What fails is written to a file, to be kept in `corpus/<target>/`.
 */
const { values } = parseArgs({
  options: {
    target: { type: "string", default: "all" },
    inputs: { type: "string", default: "1000000" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    input: { type: "string" },
  },
});

const HANG_MS = 30_000;
const module = new URL("targets.ts", import.meta.url).href;

function line(name: string, { inputs, taken, refused, slowest }: Report): string {
  const causes = Object.entries(refused)
    .toSorted(([, a], [, b]) => b - a)
    .map(([cause, count]) => `${cause} ${count}`);
  const { ms, index, bytes } = slowest;
  return `${name}: ${inputs} inputs, ${taken} taken; refused: ${causes.join(", ")}; slowest ${ms.toFixed(1)} ms (input ${index}, ${bytes} bytes)`;
}

async function feedOne(name: string, file: string): Promise<void> {
  const target = await TARGETS[name]!();
  const refused = await target.feed(new Uint8Array(readFileSync(file)));
  console.log(refused === undefined ? "taken" : `refused: ${refused}`);
  await target.close?.();
}

async function runAll(names: readonly string[], seed: number, inputs: number): Promise<void> {
  console.log(`seed ${seed}`);
  for (const name of names)
    try {
      console.log(line(name, await watchedRun({ module, name, seed, inputs, hangMs: HANG_MS })));
    } catch (error) {
      if (!(error instanceof FuzzFailure)) throw error;
      const file = `${name}-${seed}-${error.index}.input`;
      writeFileSync(file, error.input);
      console.log(`${name}: input ${error.index}, kept in ${file}: ${error.message}`);
      process.exitCode = 1;
    }
}

const names = values.target === "all" ? Object.keys(TARGETS) : values.target.split(",");
const unknown = names.filter((name) => !Object.hasOwn(TARGETS, name));
if (unknown.length > 0)
  throw new Error(`no target ${unknown.join(", ")}; there are ${Object.keys(TARGETS).join(", ")}`);
if (values.input === undefined) await runAll(names, Number(values.seed), Number(values.inputs));
else await feedOne(names[0]!, values.input);
