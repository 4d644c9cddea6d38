import { expect, test } from "vitest";
import { backedOff, RetriedWork } from "../../../shared/node/retried-work.ts";

test("what goes on failing for one reason is told once, another reason and the end of it too", async () => {
  const told: (string | undefined)[] = [];
  const retried = new RetriedWork((failure) => told.push(failure?.message));
  const fail = (message: string): Promise<void> =>
    retried.through(() => Promise.reject(new Error(message))).catch(() => {});
  await retried.through(async () => {});
  for (const why of ["no port", "no port", "no port", "no memory"]) await fail(why);
  expect(retried.failure()?.message).toBe("no memory");
  await retried.through(async () => {});
  await retried.through(async () => {});
  expect(told).toEqual(["no port", "no memory", undefined]);
  expect(retried.failure()).toBeUndefined();
});

test("waits become longer, up to a bound", () => {
  const waits = [500];
  for (let i = 0; i < 4; i++) waits.push(backedOff(waits.at(-1)!, 3000));
  expect(waits).toEqual([500, 1000, 2000, 3000, 3000]);
});
