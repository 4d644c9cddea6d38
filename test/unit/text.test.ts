import { expect, test } from "vitest";
import { counted, duration, exactBytes, exactDuration } from "../../shared/text.ts";

test.each([
  [1, "1 minute"],
  [90_000, "1 minute"],
  [120_000, "2 minutes"],
  [3_600_000, "1 hour"],
  [47 * 3_600_000, "1 day"],
  [400 * 86_400_000, "400 days"],
])("%i ms are %s", (ms, text) => expect(duration(ms)).toBe(text));

test.each([
  [0, "0 hosts"],
  [1, "1 host"],
  [2, "2 hosts"],
])("%i of them are %s", (count, text) => expect(counted(count, "host")).toBe(text));

test.each([
  [2_592_000_000, "30 days"],
  [3_600_000, "1 hour"],
  [5_400_000, "90 minutes"],
  [90_000, "90 seconds"],
  [1500, "1.5 seconds"],
])("%d ms are exactly %s", (ms, text) => {
  expect(exactDuration(ms)).toBe(text);
});

test.each([
  [2 ** 40, "1 TiB"],
  [3 * 2 ** 20, "3 MiB"],
  [1500, "1500 bytes"],
  [0, "0 bytes"],
  [2 ** 50, "1 PiB"],
])("%d bytes are exactly %s", (bytes, text) => {
  expect(exactBytes(bytes)).toBe(text);
});
