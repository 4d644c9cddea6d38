import { defineConfig } from "vitest/config";

const node = { execArgv: ["--disable-warning=ExperimentalWarning"] };

// unit: pure and fast, no root. system: real kernel, processes and sockets, one file at a time.
// sim: thousands of simulated clusters, which would take the others' time.
// guest: a machine in software, so slow that time limits are only there to end a test that hangs.
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
          name: "system",
          include: ["test/**/*.system.test.ts"],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 2 },
          ...node,
        },
      },
      {
        test: {
          name: "sim",
          include: ["test/sim/**/*.sim.test.ts"],
          fileParallelism: false,
          maxConcurrency: 2,
          sequence: { groupOrder: 4 },
          ...node,
        },
      },
      {
        test: {
          name: "guest",
          include: ["test/guest/**/*.guest.test.ts"],
          // Its own steps follow from each other; beside the other tests both would be slower.
          fileParallelism: false,
          sequence: { groupOrder: 3 },
          ...node,
        },
      },
    ],
  },
});
