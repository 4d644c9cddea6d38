import { fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { newFaultMix } from "./faults.ts";
import { plantEdits } from "./planting.ts";
import { PLANTS } from "./plants.ts";
import type { Outcome, Simulation } from "./simulation.ts";
import { optionsOf } from "./sizes.ts";

/** `npm run sim`: see README.md here. */

const USAGE = `npm run sim -- [options]
  --seed N          one run (default 1)
  --seeds COUNT     that many runs, from --from-seed on, on all processors
  --minutes M       runs until the time is over
  --from-seed N     the first seed of several (default 1)
  --nodes N         hosts (default: 5 to 8, by seed)
  --networks N  --endpoints N  --chaos-s SECONDS
  --jobs N          processes for several runs
  --plant NAME      plants a bug and looks for a seed, of 100, that finds it; \`list\` names them
  --preloaded       containers run when it begins, and all disks have what the others say
  --budgets         what one change and a minute of nothing cost a preloaded cluster of --nodes; fails above what they may
  --trace           prints all that happens`;

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    seeds: { type: "string" },
    minutes: { type: "string" },
    "from-seed": { type: "string", default: "1" },
    // Of several processes: which one this is, and how many there are.
    index: { type: "string", default: "0" },
    step: { type: "string", default: "1" },
    nodes: { type: "string" },
    networks: { type: "string" },
    endpoints: { type: "string" },
    "chaos-s": { type: "string" },
    jobs: { type: "string" },
    plant: { type: "string" },
    preloaded: { type: "boolean", default: false },
    budgets: { type: "boolean", default: false },
    trace: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

const PLANT_SEEDS = 300;
const PROGRESS_MS = 10_000;
const size = {
  nodes: numberOf(values.nodes),
  networks: numberOf(values.networks),
  preloaded: values.preloaded,
  endpoints: numberOf(values.endpoints),
  chaosMs: values["chaos-s"] === undefined ? undefined : Number(values["chaos-s"]) * 1000,
};

/** From a child to its parent; none of them keeps more than counts. */
interface Report {
  readonly outcome: Omit<Outcome, "counters">;
}

process.exitCode = await main();

async function main(): Promise<number> {
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  if (values.plant === "list") {
    for (const { name } of PLANTS) console.log(name);
    return 0;
  }
  if (values.budgets) return checkBudgets();
  if (process.send !== undefined) return runAsChild();
  if (values.plant !== undefined && values.seeds === undefined && !values.trace)
    return findPlant(values.plant);
  if (values.seeds !== undefined || values.minutes !== undefined) return runMany();
  return runOne(Number(values.seed));
}

async function runOne(seed: number): Promise<number> {
  if (values.plant !== undefined) plantNamed(values.plant);
  const startMs = performance.now();
  const outcome = await simulate(seed, true);
  const seconds = (performance.now() - startMs) / 1000;
  const { faults, counters, failures, trace, events, virtualMs, endpoints } = outcome;
  console.log(`seed ${seed}: ${events} events, ${virtualMs / 1000} s in ${seconds.toFixed(1)} s`);
  console.log(`${endpoints} containers at the end; trace ${trace}`);
  printMix(faults);
  console.log(
    Object.entries(counters)
      .map(([name, count]) => `${name} ${count}`)
      .join(", "),
  );
  printCosts(outcome);
  for (const failure of failures) console.log(`FAILED ${failure}`);
  return failures.length === 0 ? 0 : 1;
}

/** Beside ten hosts. */
async function checkBudgets(): Promise<number> {
  const { budgetsOf, SMALL, tooDear } = await import("./budgets.ts");
  const small = await budgetsOf(SMALL.hosts, SMALL.networks);
  const { nodes = SMALL.hosts, networks = SMALL.networks } = size;
  const budgets = await budgetsOf(nodes, networks);
  printMost("an idle minute on ten networks", small.idle, `of ${SMALL.hosts} hosts`);
  printMost("an idle minute on ten networks", budgets.idle, `of ${nodes} hosts`);
  for (const isOn of [true, false]) {
    const where = isOn ? "hosts on its network" : "other hosts";
    const [block, start] = [budgets.block, budgets.start].map((costs) =>
      costs.filter((cost) => cost.isOn === isOn),
    );
    printMost("one block more", block!, where);
    printMost("one container more", start!, where);
  }
  const found = tooDear(budgets, small);
  for (const failure of found) console.log(`FAILED ${failure}`);
  return found.length === 0 ? 0 : 1;
}

/** Each seed of the first hundred until one fails, as it should. */
async function findPlant(name: string): Promise<number> {
  plantNamed(name);
  for (let seed = 1; seed <= PLANT_SEEDS; seed++) {
    const failures = await failuresOf(seed);
    if (failures.length === 0) continue;
    console.log(`${name}: found by seed ${seed}: ${failures[0]}`);
    return 0;
  }
  console.log(`${name}: not found by ${PLANT_SEEDS} seeds`);
  return 1;
}

/** What breaks in the code itself is found as well, and in what nobody waits for. */
async function failuresOf(seed: number): Promise<readonly string[]> {
  const thrown: string[] = [];
  const note = (error: unknown): void => void thrown.push(`it throws: ${(error as Error).message}`);
  process.on("unhandledRejection", note);
  try {
    const { failures } = await simulate(seed);
    return [...thrown, ...failures];
  } catch (error) {
    note(error);
    return thrown;
  } finally {
    process.off("unhandledRejection", note);
  }
}

/** Seeds from `--from-seed` on, each in one of some processes. */
async function runMany(): Promise<number> {
  const jobs = numberOf(values.jobs) ?? availableParallelism();
  const startMs = performance.now();
  const faults = newFaultMix();
  let runs = 0;
  let failed = 0;
  let events = 0;
  const children = Array.from({ length: jobs }, (_, i) => {
    const child = fork(import.meta.filename, [
      ...process.argv.slice(2),
      `--index=${i}`,
      `--step=${jobs}`,
    ]);
    child.on("message", (report) => {
      const { outcome } = report as Report;
      runs++;
      events += outcome.events;
      for (const [name, count] of Object.entries(outcome.faults))
        faults[name as keyof typeof faults] += count;
      if (outcome.failures.length === 0) return;
      failed++;
      for (const failure of outcome.failures.slice(0, 3))
        console.log(`seed ${outcome.seed} FAILED ${failure}`);
    });
    return new Promise<number>((resolve) => child.on("exit", (code) => resolve(code ?? 1)));
  });
  const codes = await Promise.all(children);
  const seconds = (performance.now() - startMs) / 1000;
  console.log(`${runs} runs, ${failed} failed, ${events} events in ${seconds.toFixed(1)} s`);
  printMix(faults);
  return failed === 0 && runs > 0 && codes.every((code) => code === 0) ? 0 : 1;
}

async function runAsChild(): Promise<number> {
  if (values.plant !== undefined) plantNamed(values.plant);
  const first = Number(values["from-seed"]);
  const last = values.seeds === undefined ? Infinity : first + Number(values.seeds) - 1;
  const endMs = performance.now() + (numberOf(values.minutes) ?? Infinity) * 60_000;
  const step = Number(values.step);
  for (let seed = first + Number(values.index); seed <= last; seed += step) {
    if (performance.now() > endMs) break;
    const { counters: _, ...outcome } = await simulate(seed);
    await new Promise((resolve) => process.send!({ outcome } satisfies Report, resolve));
  }
  process.disconnect();
  return 0;
}

async function simulate(seed: number, tellsProgress = false): Promise<Outcome> {
  // Only now: what is planted must be there before the product is loaded.
  const { Simulation } = await import("./simulation.ts");
  const simulation = new Simulation(optionsOf(seed, size));
  if (values.trace) simulation.log = (line) => process.stdout.write(line);
  if (tellsProgress) simulation.secondPassed = progressOf(simulation);
  return simulation.run();
}

/** On standard error, for a run that takes longer than a person looks on. */
function progressOf({ queue, options }: Simulation): () => void {
  let saidMs = performance.now();
  return () => {
    if (performance.now() - saidMs < PROGRESS_MS) return;
    saidMs = performance.now();
    const faultsEnd = `faults end at ${options.chaosMs / 1000}`;
    console.error(`${Math.round(queue.nowMs / 1000)} s (${faultsEnd}), ${queue.count} events`);
  };
}

function plantNamed(name: string): void {
  const plant = PLANTS.find((candidate) => candidate.name === name);
  if (plant === undefined) throw new Error(`no plant ${name}; see --plant list`);
  plantEdits(plant.edits);
}

function printMix(faults: Outcome["faults"]): void {
  console.log(
    Object.entries(faults)
      .map(([name, count]) => `${name} ${count}`)
      .join(", "),
  );
}

/** What the run cost each host and each change of a container, and what one container more costs a cluster at rest. */
function printCosts({ hosts, faults, counters, start }: Outcome): void {
  const changes = faults.started + faults.stopped + faults.moved + faults.healthChanged;
  const costs = Object.entries(counters).filter(([name]) => /^(checked|mesh|kernel)\./.test(name));
  for (const [of, count] of [
    [`host, of ${hosts}`, hosts],
    [`change of a container, of ${changes}, on all hosts`, changes],
  ] as const) {
    const each = costs.map(([name, n]) => `${name} ${(n / Math.max(1, count)).toFixed(1)}`);
    console.log(`a ${of}: ${each.join(", ")}`);
  }
  if (start === undefined) return console.log("one container more at rest: none could start");
  for (const [of, some] of [
    ["hosts on its network", start.filter(({ isOn }) => isOn)],
    ["other hosts", start.filter(({ isOn }) => !isOn)],
  ] as const) {
    printMost("one container more at rest", some, of);
  }
}

function printMost(what: string, costs: readonly object[], of: string): void {
  const names = Object.keys(costs[0] ?? {}).filter((name) => name !== "host" && name !== "isOn");
  const most = names.map((name) => {
    const all = costs.map((cost) => Number((cost as Record<string, unknown>)[name]));
    return `${name} ${all.reduce((a, b) => Math.max(a, b), 0)}`;
  });
  console.log(`${what}, at most at ${costs.length} ${of}: ${most.join(", ")}`);
}

function numberOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}
