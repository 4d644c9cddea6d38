import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Fault, FAULTS, KeyWorld, type WorldOptions } from "./key-world.ts";

const CHAOS_MS = 8000;

interface Happening {
  readonly atMs: number;
  readonly kind: Fault;
  readonly k: number;
}

const worlds = fc.record({
  hosts: fc.integer({ min: 2, max: 4 }),
  seed: fc.nat(),
  lost: fc.integer({ min: 0, max: 40 }),
  doubled: fc.integer({ min: 0, max: 30 }),
  // Up to more than what is waited for: late answers, and questions of processes that are gone.
  maxDelayMs: fc.integer({ min: 0, max: 400 }),
});

const faults = fc.array(
  fc.record({
    atMs: fc.integer({ min: 0, max: CHAOS_MS }),
    kind: fc.constantFrom<Fault>(...FAULTS),
    k: fc.integer({ min: 1, max: 4 }),
  }),
  { maxLength: 12 },
);

/** Of who is not wanted the kernel refuses to remove a key; wanted again, it is found as a stray. */
const REFUSED_WHILE_UNWANTED: [WorldOptions, Happening[]] = [
  { hosts: 2, seed: 1236223289, lost: 17, doubled: 0, maxDelayMs: 3 },
  [
    { atMs: 2667, kind: "refuse-steps", k: 2 },
    { atMs: 384, kind: "lose-one", k: 1 },
    { atMs: 4243, kind: "unwant", k: 2 },
  ],
];

describe("the keys of pairs", () => {
  test("whatever is lost, late, doubled, restarted: no key twice, no packet without its other half, and peace in the end", () => {
    let installed = 0;
    fc.assert(
      fc.property(worlds, faults, (options, happenings) => {
        const world = new KeyWorld(options);
        for (const { atMs, kind, k } of happenings.toSorted((a, b) => a.atMs - b.atMs)) {
          world.runUntil(atMs);
          world.fault(kind, k);
        }
        world.runUntil(CHAOS_MS);
        world.heal();
        world.runUntil(CHAOS_MS + 6000);
        expect(world.ready()).toBe(true);
        let quiet = 0;
        for (let at = 1; at <= 200; at++) {
          world.runUntil(CHAOS_MS + 6000 + at * 20);
          if (world.settled()) quiet++;
        }
        expect(quiet).toBeGreaterThan(0);
        installed += world.installed;
      }),
      { numRuns: 40, examples: [REFUSED_WHILE_UNWANTED] },
    );
    expect(installed).toBeGreaterThan(1000);
  }, 240_000);
});
