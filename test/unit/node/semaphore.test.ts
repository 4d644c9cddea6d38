import { expect, test } from "vitest";
import { Semaphore } from "../../../shared/node/semaphore.ts";

test("at most so many at once, in order, and a failure gives its place to the next", async () => {
  const atMost = new Semaphore(2);
  const begun: number[] = [];
  const ends = Array.from({ length: 4 }, () => Promise.withResolvers<number>());
  const results = ends.map(({ promise }, i) =>
    atMost.run(() => {
      begun.push(i);
      return promise;
    }),
  );
  await Promise.resolve();
  expect(begun).toEqual([0, 1]);
  ends[1]?.reject(new Error("no"));
  await expect(results[1]).rejects.toThrow("no");
  expect(begun).toEqual([0, 1, 2]);
  for (const i of [0, 2, 3]) ends[i]?.resolve(i);
  expect(await Promise.all([results[0], results[2], results[3]])).toEqual([0, 2, 3]);
});
