import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { PLANTS } from "./plants.ts";
import { runSim } from "./run-sim.ts";

/** Each process loads the same files but one or two: what one has compiled the others find, by its content. */
const compiled = mkdtempSync(join(tmpdir(), "overlay-ts-sim-"));
afterAll(() => rmSync(compiled, { recursive: true, force: true }));

describe("a planted bug is found within three hundred seeds", () => {
  test.concurrent.each(PLANTS)("$name: $what", { timeout: 1_200_000 }, async ({ name }) => {
    const { code, output } = await runSim(["--plant", name], { NODE_COMPILE_CACHE: compiled });
    expect(output).toMatch(/found by seed \d+/);
    expect(code).toBe(0);
  });
});
