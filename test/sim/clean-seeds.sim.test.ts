import { expect, test } from "vitest";
import { runSim } from "./run-sim.ts";

/** The soak has twenty thousand. */
test("two hundred seeds without a failure", { timeout: 1_200_000 }, async () => {
  const { code, output } = await runSim(["--seeds", "200"]);
  expect(output).toMatch(/200 runs, 0 failed/);
  expect(code).toBe(0);
  // Each means to have 14 containers run, and starts more as they go: on the whole these runs are none of idlers.
  const started = Number(/ started (\d+)/.exec(output)?.[1]);
  expect(started).toBeGreaterThan(4_000);
});
