import { defineConfig } from "vitest/config";

const node = { execArgv: ["--disable-warning=ExperimentalWarning"] };

// unit: pure and fast, no root. system: real kernel, processes and sockets, one file at a time.
export default defineConfig({
  test: {
    passWithNoTests: false,
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/{unit,property,contract,sim}/**/*.test.ts"],
          exclude: ["**/*.system.test.ts"],
          testTimeout: 30_000,
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
          ...node,
        },
      },
    ],
  },
});
