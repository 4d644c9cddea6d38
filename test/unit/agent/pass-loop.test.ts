import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { PassLoop } from "../../../agent/pass-loop.ts";

test("who waits is told of the pass that has what it waits for, also when something always comes", async () => {
  let passes = 0;
  const loop = new PassLoop(
    async () => {
      passes++;
      // Somebody else's change, during each pass.
      loop.dirty();
      await delay(1);
    },
    () => {},
  );
  loop.dirty();
  expect(await loop.tried()).toBeUndefined();
  const before = passes;
  loop.dirty();
  await loop.settled();
  expect(passes).toBeGreaterThan(before);
  await loop.stop();
});

test("a failure is told to who waits, and tried again until it succeeds", async () => {
  const told: (string | undefined)[] = [];
  let fails = 2;
  const loop = new PassLoop(
    async () => {
      if (fails-- > 0) throw new Error("not yet");
    },
    (failure) => told.push(failure?.message),
  );
  loop.dirty();
  expect((await loop.tried())?.message).toBe("not yet");
  await loop.settled();
  expect(loop.failure()).toBeUndefined();
  expect(told.at(-1)).toBeUndefined();
  expect(told[0]).toBe("not yet");
  await loop.stop();
});

test("nobody waits for ever: what is stopped answers, and so does what is at rest", async () => {
  const loop = new PassLoop(
    () => Promise.reject(new Error("never")),
    () => {},
  );
  expect(await loop.tried()).toBeUndefined();
  loop.dirty();
  const settled = loop.settled();
  await loop.tried();
  await loop.stop();
  await settled;
});
