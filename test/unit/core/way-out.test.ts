import { expect, test } from "vitest";
import { type BoundPort, boundPorts } from "../../../agent/core/data-plane/way-out.ts";

const of = (port: string, ...speakers: [mac: string, address: string][]): BoundPort => ({
  port,
  speakers: speakers.map(([mac, address]) => ({ mac, address })),
});
const all = new Set(["a", "b", "c"]);

test("a port gets what it was found with, and keeps it while it is there", () => {
  const first = boundPorts([], [of("a", ["m1", "i1"])], all);
  expect(first).toEqual([of("a", ["m1", "i1"])]);
  expect(boundPorts(first, [of("a", ["m9", "i9"])], all)).toEqual(first);
  expect(boundPorts(first, [], new Set(["b"]))).toEqual([]);
});

test("a new one gets no MAC and no address that another has, also of those found with it", () => {
  const held = [of("a", ["m1", "i1"])];
  expect(boundPorts(held, [of("b", ["m1", "i2"])], all)).toEqual([...held, of("b")]);
  expect(boundPorts(held, [of("b", ["m2", "i1"], ["m2", "i2"])], all)).toEqual([
    ...held,
    of("b", ["m2", "i2"]),
  ]);
  expect(boundPorts([], [of("b", ["m", "i2"]), of("c", ["m", "i3"])], all)).toEqual([
    of("b", ["m", "i2"]),
    of("c"),
  ]);
});

test("what a port that went had is free for one that comes", () => {
  const held = [of("a", ["m1", "i1"])];
  const next = [of("b", ["m1", "i1"])];
  expect(boundPorts(held, next, new Set(["b"]))).toEqual(next);
});
