import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HeldNetwork } from "../../agent/core/data-plane/held-network.ts";
import type { DesiredNetwork, Step, Wanted } from "../../agent/core/data-plane/kernel-state.ts";
import { plan } from "../../agent/core/data-plane/plan.ts";
import { FakeKernel } from "../fakes/fake-kernel.ts";
import { addressesOf } from "../../shared/documents.ts";
import { app, dataPlane, endpoint, present, vtepOf, withIpv6 } from "../support/cluster.ts";

const wanted = fc
  .record({
    mtuBytes: fc.constantFrom(1450, 1400),
    local: fc.uniqueArray(fc.integer({ min: 2, max: 8 }), { maxLength: 4 }),
    remote: fc.uniqueArray(fc.integer({ min: 2, max: 8 }), { maxLength: 5 }),
    vtep: fc.integer({ min: 2, max: 3 }),
    multicast: fc.boolean(),
    copies: fc.uniqueArray(fc.integer({ min: 2, max: 4 }), { maxLength: 3 }),
  })
  .map(({ mtuBytes, local, remote, vtep, multicast, copies }): DesiredNetwork => ({
    ...dataPlane(1),
    mtuBytes,
    multicast,
    ports: local.map((n) => ({
      endpoint: endpoint(1, n).id,
      mac: endpoint(1, n).mac,
      ips: addressesOf(withIpv6(endpoint(1, n))),
    })),
    remotes: remote.map((n) => ({
      mac: endpoint(2, n).mac,
      vtep: vtepOf(vtep),
      ips: addressesOf(withIpv6(endpoint(2, n))),
    })),
    flood: copies.map((k) => vtepOf(k)),
  }));

const planned = (kernel: FakeKernel, to: Wanted): Step[] =>
  plan(new HeldNetwork(kernel.readNow(app.id)), to);

const holds = (kernel: FakeKernel, desired: DesiredNetwork): void => {
  const actual = kernel.readNow(app.id);
  expect(new Map(actual.vxlanFdb.map(({ mac, vtep }) => [mac, vtep]))).toEqual(
    new Map(desired.remotes.map(({ mac, vtep }) => [mac, vtep])),
  );
  expect(new Set(actual.bridgeFdb)).toEqual(new Set(desired.remotes.map(({ mac }) => mac)));
  expect(new Map(actual.neighbours.map(({ ip, mac }) => [ip, mac]))).toEqual(
    new Map(desired.remotes.flatMap(({ mac, ips }) => ips.map((ip) => [ip, mac]))),
  );
  expect(new Set(actual.flood)).toEqual(new Set(desired.flood));
  expect(actual.faults).toEqual([]);
  expect(actual.unfinishedPorts).toEqual([]);
  expect(new Set(actual.ports.map((port) => port.endpoint))).toEqual(
    new Set(desired.ports.map((port) => port.endpoint)),
  );
};

describe("plan", () => {
  test("from any state to any other in one pass, then nothing is left to do", () => {
    fc.assert(
      fc.property(
        fc.array(wanted, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 2, max: 9 }),
        (states, crashed) => {
          const kernel = new FakeKernel();
          for (const desired of states) {
            // A crash may have left any of the last state's ports unfinished.
            for (const { endpoint: left } of kernel.readNow(app.id).ports)
              if (left < endpoint(1, crashed).id) kernel.leaveUnfinished(app.id, left);
            if (crashed % 2 === 0 && kernel.listNow().length > 0) kernel.spoil(app.id);
            kernel.applyNow(app.id, planned(kernel, present(desired)));
            holds(kernel, desired);
            expect(planned(kernel, present(desired))).toEqual([]);
          }
          kernel.applyNow(app.id, planned(kernel, { kind: "absent" }));
          expect(planned(kernel, { kind: "absent" })).toEqual([]);
          expect(kernel.readNow(app.id).device).toBeUndefined();
        },
      ),
    );
  });

  test("not in sync: nothing remote goes, whatever comes", () => {
    fc.assert(
      fc.property(wanted, wanted, (before, after) => {
        fc.pre(before.mtuBytes === after.mtuBytes && before.multicast === after.multicast);
        const kernel = new FakeKernel();
        kernel.applyNow(app.id, planned(kernel, present(before)));
        const held = kernel.readNow(app.id);
        kernel.applyNow(app.id, plan(new HeldNetwork(held), present(after, false)));
        const macs = new Set(kernel.readNow(app.id).vxlanFdb.map(({ mac }) => mac));
        for (const { mac } of held.vxlanFdb) expect(macs).toContain(mac);
        for (const { mac } of after.remotes) expect(macs).toContain(mac);
        expect(plan(new HeldNetwork(held), { kind: "keep" })).toEqual([]);
      }),
    );
  });

  test("remotes stand before the ports that need them", () => {
    fc.assert(
      fc.property(wanted, (desired) => {
        fc.pre(desired.remotes.length > 0 && desired.ports.length > 0);
        const kinds = planned(new FakeKernel(), present(desired)).map((step) => step.kind);
        expect(kinds[0]).toBe("extend");
        expect(kinds.lastIndexOf("putRemotes")).toBeLessThan(kinds.indexOf("putPort"));
      }),
    );
  });

  test("neighbours lost with the bridge's link are put back, and they alone", () => {
    const desired = fc.sample(
      wanted.filter(({ remotes }) => remotes.length > 1),
      { numRuns: 1, seed: 7 },
    )[0]!;
    const kernel = new FakeKernel();
    kernel.applyNow(app.id, planned(kernel, present(desired)));
    kernel.loseNeighbours(app.id);
    const steps = planned(kernel, present(desired, false));
    expect(steps.map((step) => step.kind)).toEqual(["putRemotes"]);
    kernel.applyNow(app.id, steps);
    holds(kernel, desired);
  });
});
