import { defineConfig } from "vitest/config";

// Run in the bare guest by test/guest/kernel-guest.ts, never on the machine itself: what is tested
// here needs a kernel that the machine may not have. Everything is 20 to 40 times slower there.
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ["*.inside.test.ts"],
    passWithNoTests: false,
    fileParallelism: false,
    // One process for all files: a start of another takes half a minute there.
    isolate: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 60_000 } },
    reporters: ["verbose"],
    execArgv: ["--disable-warning=ExperimentalWarning"],
  },
});
