import { expect, test } from "vitest";
import {
  FloodLimits,
  GOSSIP_LIMITS,
  gossipWork,
} from "../../../agent/replication/gossip/flood-limits.ts";
import { nodeId } from "../../support/cluster.ts";

const { perSecond, burst, toleratedPerSecond, toleratedBurst, cutMs } = GOSSIP_LIMITS;

test("a message costs more the larger it is, and an empty word costs too", () => {
  expect(gossipWork([])).toBe(1);
  expect(gossipWork([0, 100])).toBe(3);
  expect(gossipWork([64 * 1024])).toBe(18);
});

test("a burst passes, then so much a second; another host's is its own", () => {
  const limits = new FloodLimits(GOSSIP_LIMITS);
  const passed = (node: number, nowMs: number): number => {
    let count = 0;
    while (limits.take(nodeId(node), 1, nowMs) === "pass") count++;
    return count;
  };
  expect(passed(1, 0)).toBe(burst);
  expect(passed(1, 1000)).toBe(perSecond);
  expect(passed(2, 1000)).toBe(burst);
});

test("who sends far more is cut off for a while, and no new connection is a new allowance", () => {
  const limits = new FloodLimits(GOSSIP_LIMITS);
  const verdicts = Array.from({ length: burst + toleratedBurst + 1 }, () =>
    limits.take(nodeId(1), 1, 0),
  );
  expect(verdicts.filter((each) => each === "drop")).toHaveLength(toleratedBurst);
  expect(verdicts.at(-1)).toBe("cut");
  expect(limits.isCut(nodeId(1), cutMs - 1)).toBe(true);
  expect(limits.isCut(nodeId(1), cutMs)).toBe(false);
  expect(limits.isCut(nodeId(2), 0)).toBe(false);
});

test("an honest host that hands on all that seven neighbours may send it is never cut off", () => {
  const limits = new FloodLimits(GOSSIP_LIMITS);
  const aSecond = 7 * perSecond;
  expect(aSecond).toBeLessThan(toleratedPerSecond);
  for (let ms = 0; ms < 600_000; ms += 10)
    expect(limits.take(nodeId(1), aSecond / 100, ms)).not.toBe("cut");
});
