import { expect, test } from "vitest";
import { isNews } from "../../../agent/core/tables/news.ts";
import { Questions } from "../../../agent/core/tables/questions.ts";

test("a question ends once: with its answer, with its network, or with its time", () => {
  const questions = new Questions<{ network: string }>(1000);
  expect(questions.nextMs()).toBe(Infinity);
  const [a, b, c, d] = ["a", "b", "c", "d"].map((network, i) => questions.ask({ network }, i * 10));
  expect(questions.nextMs()).toBe(1000);
  expect(questions.end(a!)).toEqual({ network: "a" });
  expect(questions.end(a!)).toBeUndefined();
  questions.forget(({ network }) => network === "b");
  expect(questions.end(b!)).toBeUndefined();
  expect(questions.nextMs()).toBe(1020);
  expect(questions.expire(1019)).toBe(0);
  expect(questions.expire(1020)).toBe(1);
  expect(questions.end(c!)).toBeUndefined();
  expect(questions.end(d!)).toEqual({ network: "d" });
});

const bytes = (n: number) => new Uint8Array([n]);
const held = { version: { incarnation: 2, seq: 5 } };

test.each([
  ["a newer one", { incarnation: 2, seq: 6 }, 1, true],
  ["one of a later incarnation", { incarnation: 3, seq: 1 }, 1, true],
  ["the same", { incarnation: 2, seq: 5 }, 1, false],
  ["the same version with other content", { incarnation: 2, seq: 5 }, 2, true],
  ["an older one, whatever it says", { incarnation: 2, seq: 4 }, 2, false],
] as const)("news is %s", (_what, version, hash, news) => {
  expect(isNews({ version, hash: bytes(hash) }, held, () => bytes(1))).toBe(news);
  expect(isNews({ version, hash: bytes(hash) }, undefined, () => bytes(1))).toBe(true);
});
