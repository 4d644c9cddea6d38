import { describe, expect, test } from "vitest";
import { PLANTS } from "./plants.ts";
import { runSim } from "./run-sim.ts";

describe("a planted bug is found within a hundred seeds", () => {
  test.concurrent.each(PLANTS)("$name: $what", { timeout: 1_200_000 }, async ({ name }) => {
    const { code, output } = await runSim("--plant", name);
    expect(output).toMatch(/found by seed \d+/);
    expect(code).toBe(0);
  });
});
