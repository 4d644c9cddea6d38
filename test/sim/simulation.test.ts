import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { seededRandom } from "../support/seeded-random.ts";
import { newFaultMix } from "./faults.ts";
import { applyEdit } from "./planting.ts";
import type { StartCost } from "./one-start.ts";
import { PLANTS } from "./plants.ts";
import { Simulation } from "./simulation.ts";
import { optionsOf } from "./sizes.ts";
import { SimKeys, SimTrust } from "./stand-ins.ts";

/** `npm run sim -- --seed 7` replays one; thousand of them run in clean-seeds.sim.test.ts. */
const seeds = Array.from({ length: 12 }, (_, i) => i + 10);

describe("five to eight hosts of the real core, a controller, and whatever can go wrong", () => {
  const total = newFaultMix();
  const counters: Record<string, number> = {};
  const starts: (readonly StartCost[])[] = [];

  test.each(seeds)("seed %i: afterwards all is as what runs demands", async (seed) => {
    const outcome = await new Simulation(optionsOf(seed)).run();
    const { failures, faults, counters: counted, start } = outcome;
    expect(failures).toEqual([]);
    if (start !== undefined) starts.push(start);
    for (const [name, count] of Object.entries(faults)) total[name as keyof typeof total] += count;
    for (const [name, count] of Object.entries(counted))
      counters[name] = (counters[name] ?? 0) + count;
  });

  test("faults of every kind were among them, and were repaired", () => {
    const rare = ["lastingOneWayCuts", "controllerRestored", "leftOff", "networksEnded"];
    for (const [fault, count] of Object.entries(total))
      if (!rare.includes(fault)) expect(count, fault).toBeGreaterThan(0);
    for (const what of [
      "networks.gaps",
      "networks.overtaken",
      "cluster.overtaken",
      "cluster.followed",
      "cluster.caughtUp",
    ])
      expect(counters[what], what).toBeGreaterThan(0);
    for (const what of ["networks.badSignature", "networks.notMembers", "networks.malformed"])
      expect(counters[what], what).toBeGreaterThan(0);
  });

  test("a container more costs its network's hosts a kilobyte at most, the others nothing, and no dump", () => {
    // Where a network has one host, or no address that is free, there is nothing to be heard.
    const heard = starts.filter((costs) => costs.some(({ messages }) => messages > 0));
    expect(heard.length).toBeGreaterThan(3);
    for (const cost of heard.flat()) {
      const { isOn, messages, messageBytes, copies, copiedBytes, dumped, drifts } = cost;
      expect([dumped, drifts], `h${cost.host}`).toEqual([0, 0]);
      if (!isOn) expect([copies, messages], `h${cost.host}`).toEqual([0, 0]);
      // What a host hears first, and hears again of others that hand it on.
      expect(messageBytes).toBeLessThanOrEqual(1024);
      expect(copiedBytes * messages).toBeLessThanOrEqual(1024 * copies);
    }
    for (const costs of heard)
      expect(Math.max(...costs.map(({ written }) => written))).toBeGreaterThan(0);
  });

  test("the same seed is the same run, another seed another one", async () => {
    const run = (seed: number) =>
      new Simulation(optionsOf(seed, { nodes: 5, chaosMs: 4000 })).run();
    const [first, second, other] = [await run(3), await run(3), await run(4)];
    expect(first).toEqual(second);
    expect(first.trace).not.toBe(other.trace);
  });
});

describe("what stands in for signatures", () => {
  const keys = new SimKeys(seededRandom(1));
  const [alice, mallory] = [keys.mint(), keys.mint()];
  const message = Uint8Array.of(1, 2, 3);
  const signature = keys.signer(alice).sign(message);

  test("holds for its signer and its message, and for nothing else", () => {
    expect(keys.verifier.verify(alice, message, signature)).toBe(true);
    expect(keys.verifier.verify(mallory, message, signature)).toBe(false);
    expect(keys.verifier.verify(alice, Uint8Array.of(1, 2, 4), signature)).toBe(false);
    const forged = keys.signer(mallory).sign(message);
    expect(keys.verifier.verify(alice, message, forged)).toBe(false);
    expect(keys.verifier.verify("nobody", message, signature)).toBe(false);
  });

  test("a state that was not signed is refused, and so is a signed one that was changed", () => {
    const trust = new SimTrust(seededRandom(1));
    const { controller } = new Simulation(optionsOf(1));
    const signed = trust.sign(controller.record.state, 0);
    expect(trust.verify(signed)).toBe(controller.record.state);
    expect(() => trust.verify({ ...signed, jws: `${signed.jws}0` })).toThrow(/not signed/);
    expect(() => trust.verify({ ...signed, jws: "99.00." })).toThrow(/not signed/);
  });
});

describe("plants", () => {
  test("have a name each", () => {
    expect(new Set(PLANTS.map(({ name }) => name)).size).toBe(PLANTS.length);
  });

  test.each(PLANTS)("$name: what it replaces is in the source, once", ({ edits }) => {
    for (const edit of edits) {
      const source = readFileSync(resolve(import.meta.dirname, "../..", edit.file), "utf8");
      expect(applyEdit(source, edit)).not.toBe(source);
    }
  });

  test("one whose text is not there fails loudly", () => {
    expect(() => applyEdit("a", { file: "x.ts", from: "b", to: "c" })).toThrow(/0 times/);
    expect(() => applyEdit("bb", { file: "x.ts", from: "b", to: "c" })).toThrow(/2 times/);
  });
});
