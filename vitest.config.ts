import { defineConfig } from "vitest/config";

const node = { execArgv: ["--disable-warning=ExperimentalWarning"] };

/** `npm run soak`: also what the minutes of a test run do not suffice for. */
const LONG = process.env["SOAK"] !== undefined;

/** Files that take all processors, or measure what others would spoil: nothing runs beside them. */
const alone = ["membership", "scale", "hostile"].map((name) => `test/lab/${name}.system.test.ts`);

/** What is polled for comes, or the test fails: how soon is never what is tested. Vitest's own is a second. */
const patient = { expect: { poll: { timeout: 20_000 } } };

/** Of what starts agents. */
const program = { globalSetup: "test/support/bundled.ts" };
const system = {
  testTimeout: 300_000,
  hookTimeout: 600_000,
  // Real kernels and engines on a machine that others use. `.ci/run` prints what needed its second attempt.
  retry: 1,
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
// system: real kernel, processes and sockets; three files at a time, since they wait more than they compute.
// alone: what would disturb others, or be disturbed. sim: thousands of simulated clusters.
export default defineConfig({
  test: {
    passWithNoTests: false,
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
          exclude: alone,
          maxWorkers: 3,
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
