import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

const node = { execArgv: ["--disable-warning=ExperimentalWarning"] };

/** `npm run soak`: also what the minutes of a test run do not suffice for. */
const LONG = process.env["SOAK"] !== undefined;

/** Of `system`: of another version's processes, which a run of all needs not. */
const SOAK_ONLY = ["upgrade"].map((name) => `test/lab/${name}.system.test.ts`);

/** They take the processors away from whatever runs beside them, to see that nobody is taken for dead or starved then. */
const alone = ["membership", "hostile"].map((name) => `test/lab/${name}.system.test.ts`);

/** Of `system`, what is long and small: begun first, none of them runs by itself at the end. */
const LONG_FILES = ["restarts", "crash-points", "scale", "naming"];

/** Vitest goes by size where it knows no times, as on a fresh clone. */
class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification): boolean =>
      LONG_FILES.some((name) => moduleId.endsWith(`/${name}.system.test.ts`));
    const first = sorted.findIndex(({ project }) => project.name === "system");
    if (first < 0) return sorted;
    const [before, after] = [sorted.slice(0, first), sorted.slice(first)];
    return [...before, ...after.filter(isLong), ...after.filter((file) => !isLong(file))];
  }
}

/** What is polled for comes, or the test fails: how soon is never what is tested. Vitest's own is a second. */
const patient = { expect: { poll: { timeout: 20_000 } } };

/** Of what starts agents. */
const program = { globalSetup: "test/support/bundled.ts" };
const system = {
  testTimeout: 300_000,
  hookTimeout: 600_000,
  // Real kernels and engines on a machine that others use. `.ci/run` prints what needed its second attempt.
  retry: 1,
  setupFiles: "test/support/last-words.ts",
  ...patient,
  ...program,
  ...node,
};

/** Of files whose claims hold always or not at all: `// @module-tag never`. */
const never = {
  name: "never",
  description: "what must not happen once: its first failure counts",
  retry: 0,
};

// unit: pure and fast, no root. guest: machines in software, so slow that time limits are only there to end a test
// that hangs; two side by side, and nothing beside them.
// system: real kernel, processes and sockets; four files at a time, since they wait more than they compute.
// alone: what would disturb others. sim: thousands of simulated clusters.
export default defineConfig({
  test: {
    passWithNoTests: false,
    sequence: { sequencer: LongFirst },
    tags: [never],
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/{unit,property,contract,sim,fuzz}/**/*.test.ts"],
          exclude: ["**/*.system.test.ts", "**/*.sim.test.ts"],
          testTimeout: 30_000,
          maxWorkers: 2,
          // Modules are loaded once for all files: a quarter of the processor time.
          isolate: false,
          sequence: { groupOrder: 1 },
          ...patient,
          ...node,
        },
      },
      {
        test: {
          name: "guest",
          include: ["test/guest/**/*.guest.test.ts"],
          exclude: LONG ? [] : ["test/guest/systemd.guest.test.ts"],
          hookTimeout: 300_000,
          maxWorkers: 2,
          sequence: { groupOrder: 2 },
          ...program,
          ...node,
        },
      },
      {
        test: {
          name: "system",
          include: ["test/**/*.system.test.ts"],
          exclude: LONG ? alone : [...alone, ...SOAK_ONLY],
          maxWorkers: 4,
          sequence: { groupOrder: 3 },
          ...system,
        },
      },
      {
        test: {
          name: "alone",
          include: alone,
          fileParallelism: false,
          sequence: { groupOrder: 4 },
          ...system,
        },
      },
      {
        test: {
          name: "sim",
          include: ["test/sim/**/*.sim.test.ts"],
          fileParallelism: false,
          maxConcurrency: 2,
          sequence: { groupOrder: 5 },
          ...node,
        },
      },
    ],
  },
});
