import { describe, expect, test } from "vitest";
import type { LocalPort, Step } from "../../../agent/core/data-plane/kernel-state.ts";
import { batchesOf, PORTS_AT_ONCE } from "../../../agent/kernel/step-batches.ts";
import { endpoint } from "../../support/cluster.ts";

const portOf = (n: number): LocalPort => ({
  ...endpoint(1, n),
  endpoint: endpoint(1, n).id,
  ips: [],
});
const put = (n: number): Step => ({ kind: "putPort", port: portOf(n) });
const remove = (n: number): Step => ({ kind: "removePort", link: `ovp${n}` });
const other: Step = { kind: "putFlood", vteps: [] };

describe("steps", () => {
  test("of ports that are neighbours are done at once, and nothing changes places", () => {
    expect(batchesOf([put(1), put(2), remove(3), other, other, remove(4), put(5)])).toEqual([
      { kind: "putPorts", ports: [portOf(1), portOf(2)] },
      { kind: "removePorts", links: ["ovp3"] },
      other,
      other,
      { kind: "removePorts", links: ["ovp4"] },
      { kind: "putPorts", ports: [portOf(5)] },
    ]);
  });

  test.each([
    [put, "ports"],
    [remove, "links"],
  ] as const)("are at most so many at once", (step, items) => {
    const steps = Array.from({ length: 2 * PORTS_AT_ONCE + 1 }, (_, i) => step(i + 1));
    const sizes = batchesOf(steps).map(
      (batch) => (batch as unknown as Record<typeof items, unknown[]>)[items].length,
    );
    expect(sizes).toEqual([PORTS_AT_ONCE, PORTS_AT_ONCE, 1]);
  });
});
