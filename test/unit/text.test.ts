import { expect, test } from "vitest";
import { counted, duration } from "../../shared/text.ts";

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
