import { defineConfig } from "vitest/config";

// Run in the bare guest by test/guest/kernel.guest.test.ts, never on the machine itself: what is tested
// here needs a kernel that the machine may not have. Everything is 20 to 40 times slower there.
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ["*.inside.test.ts"],
    passWithNoTests: false,
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ["verbose"],
    execArgv: ["--disable-warning=ExperimentalWarning"],
  },
});
