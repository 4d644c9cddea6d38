import { describe, expect, test } from "vitest";
import { corpusOf } from "./corpus.ts";
import { TARGETS as PLANTED } from "./planted.ts";
import { FuzzFailure, inputAt, run } from "./run.ts";
import type { Target } from "./target.ts";
import { TARGETS } from "./targets.ts";
import { watchedRun } from "./watched-run.ts";

const moduleOf = (file: string): string => new URL(file, import.meta.url).href;
/** Only there to end what hangs: a machine may be slow. */
const HANG_MS = 60_000;
const LIMIT = { timeout: 300_000 };
/** Whole connections each. */
const SLOW: Readonly<Record<string, number>> = { "plugin-http": 1000, "sync-stream": 500 };

describe.concurrent("every decoder", LIMIT, () => {
  test.each(Object.keys(TARGETS))(
    "%s: no crash, no hang, nothing changed by what is refused",
    async (name) => {
      const inputs = SLOW[name] ?? 2000;
      const module = moduleOf("targets.ts");
      const report = await watchedRun({ module, name, seed: 1, inputs, hangMs: HANG_MS });
      const refused = Object.values(report.refused).reduce((sum, count) => sum + count, 0);
      // Who takes nothing never gets behind the first byte, and who refuses nothing checks nothing.
      expect(report.taken).toBeGreaterThan(inputs / 50);
      expect(refused).toBeGreaterThan(inputs / 50);
      expect(report.taken + refused).toBe(inputs);
    },
  );
});

describe.concurrent("a planted bug is found", LIMIT, () => {
  test.each([
    ["throws-on-cbor", /TypeError/],
    ["throws-on-json", /TypeError/],
    ["throws-on-bytes", /RangeError/],
    ["hangs", /hangs/],
    ["takes-memory", /memory/],
    ["changes-tables", /its owner did not sign/],
  ])("%s", async (name, message) => {
    expect(Object.keys(PLANTED)).toContain(name);
    const hangMs = name === "hangs" ? 3000 : HANG_MS;
    const module = moduleOf("planted.ts");
    const found = watchedRun({ module, name, seed: 1, inputs: 50_000, hangMs });
    await expect(found).rejects.toThrow(message);
    await expect(found).rejects.toBeInstanceOf(FuzzFailure);
  });
});

describe("an input", () => {
  const target: Target = {
    decoder: "none",
    recorded: [Uint8Array.of(1, 2, 3, 4)],
    feed: (input) => {
      if (input.length > 12) throw new TypeError("too long");
      return undefined;
    },
  };

  test("follows from seed and index alone, so a finding is found again", async () => {
    const failure = await run(target, target.recorded, { seed: 3, inputs: 10_000 }).catch(
      (error: unknown) => error as FuzzFailure,
    );
    if (!(failure instanceof FuzzFailure)) throw new Error("nothing was found");
    expect(failure.message).toMatch(/too long/);
    const corpus = corpusOf("no such target", target);
    expect(inputAt(target, corpus, 3, failure.index)).toEqual(failure.input);
    expect(inputAt(target, corpus, 4, failure.index)).not.toEqual(failure.input);
  });
});
