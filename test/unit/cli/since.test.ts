import { expect, test } from "vitest";
import { parseSince } from "../../../agent/cli/context.ts";

const nowMs = Date.parse("2026-11-30T12:00:00Z");

test.each([
  ["15m", 900_000],
  ["2026-11-30T11:59:00Z", 60_000],
  ["2026-11-30T12:59:00+01:00", 60_000],
  ["2026-11-29", 36 * 3_600_000],
  ["2027-01-01", 0],
])("events --since %s", (text, ms) => {
  expect(parseSince(text, nowMs)).toBe(ms);
});

test.each(["yesterday", "10", "2026-13-30"])("--since %s is no time", (text) => {
  expect(() => parseSince(text, nowMs)).toThrow(`not a duration: ${text}`);
});
