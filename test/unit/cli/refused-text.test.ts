import { expect, test } from "vitest";
import { refusedText } from "../../../agent/cli/refused-text.ts";
import { PluginCounters } from "../../../agent/docker/plugin/counters.ts";

const MINUTE_MS = 60_000;

test("what was refused is shown with when and why, the newest first, and after an hour no more", () => {
  let nowMs = 1_700_000_000_000;
  const counters = new PluginCounters(() => nowMs);
  const refuse = (name: string, message: string): void => {
    counters.count(name, "asked");
    counters.refused(name, { message, next: "choose another" });
  };
  expect(refusedText(counters.counts(), nowMs)).toEqual([]);
  refuse("NetworkDriver.CreateNetwork", "one reason");
  nowMs += 5 * MINUTE_MS;
  refuse("NetworkDriver.CreateNetwork", "another reason");
  nowMs += 30_000;
  counters.unknown("names", { message: "no such call" });
  nowMs += MINUTE_MS;
  expect(refusedText(counters.counts(), nowMs)).toEqual([
    "",
    "refused to Docker: no call of ours, once, 60 s ago: no such call",
    "refused to Docker: NetworkDriver.CreateNetwork, 2 times, last, 90 s ago: another reason",
    "  → choose another",
  ]);
  nowMs += 59 * MINUTE_MS - 1;
  expect(refusedText(counters.counts(), nowMs)).toHaveLength(2);
  nowMs += MINUTE_MS;
  expect(refusedText(counters.counts(), nowMs)).toEqual([]);
  // For programs it stays.
  expect(counters.counts().lastRefused).toHaveProperty(["NetworkDriver.CreateNetwork"]);
});
