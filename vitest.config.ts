import { defineConfig } from "vitest/config";

const node = { execArgv: ["--disable-warning=ExperimentalWarning"] };

/** Of each turn one file at a time; a file of the other turn may run beside it. A third worker waits. */
const takingTurns = (turn: string) => ({
  maxWorkers: 3,
  setupFiles: ["test/support/one-at-a-time.ts"],
  env: { TURN: turn },
  sequence: { groupOrder: 2 },
});

// unit: pure and fast, no root. system: real kernel, processes and sockets.
// guest: a machine in software, so slow that time limits are only there to end a test that hangs. It has the
// lowest priority and runs beside the system tests, which wait more than they compute; it comes first in
// its group, by its name. sim: thousands of simulated clusters, which would take the others' time.
export default defineConfig({
  test: {
    passWithNoTests: false,
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/{unit,property,contract,sim,fuzz}/**/*.test.ts"],
          exclude: ["**/*.system.test.ts", "**/*.sim.test.ts"],
          testTimeout: 30_000,
          sequence: { groupOrder: 1 },
          ...node,
        },
      },
      {
        test: {
          name: "guest",
          include: ["test/guest/**/*.guest.test.ts"],
          ...takingTurns("guest"),
          ...node,
        },
      },
      {
        test: {
          name: "system",
          include: ["test/**/*.system.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 300_000,
          ...takingTurns("system"),
          ...node,
        },
      },
      {
        test: {
          name: "sim",
          include: ["test/sim/**/*.sim.test.ts"],
          fileParallelism: false,
          maxConcurrency: 2,
          sequence: { groupOrder: 3 },
          ...node,
        },
      },
    ],
  },
});
