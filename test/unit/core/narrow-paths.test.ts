import { expect, test } from "vitest";
import { isReached, narrowPaths } from "../../../agent/core/liveness/narrow-paths.ts";

const full = { name: "h2", bytes: 1450, roundTripMs: 1 };
const narrow = { name: "h3", bytes: 1450, roundTripMs: undefined, smallRoundTripMs: 1 };
const silent = { name: "h4", bytes: 1450, roundTripMs: undefined, smallRoundTripMs: undefined };

test("a host is reached when any packet is answered, and its path narrow when only small ones are", () => {
  expect([full, narrow, silent].map(isReached)).toEqual([true, true, false]);
  expect(narrowPaths([full, silent])).toBeUndefined();
  expect(narrowPaths([silent, narrow, full])?.message).toBe(
    "packets of 1450 bytes do not reach h3, small ones do: the MTU is smaller there, or on the way",
  );
});
