import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { driftOf, HeldNetwork } from "../../agent/core/data-plane/held-network.ts";
import type { DesiredNetwork, Step, Wanted } from "../../agent/core/data-plane/kernel-state.ts";
import { entriesOf, plan } from "../../agent/core/data-plane/plan.ts";
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
    remotes: [
      {
        vtep: vtepOf(vtep),
        members: remote.map((n) => ({
          mac: endpoint(2, n).mac,
          ips: addressesOf(withIpv6(endpoint(2, n))),
        })),
      },
    ],
    flood: copies.map((k) => vtepOf(k)),
  }));

const planned = (kernel: FakeKernel, to: Wanted): Step[] =>
  plan(new HeldNetwork(kernel.readNow(app.id)), to);

/** Of entries, and of ports, that are taken away one after the other. */
const inNoOrder = (steps: readonly Step[]): Step[] => {
  const entries = steps.map((step): Step => {
    if (step.kind === "removeFdb") return { ...step, entries: sorted(step.entries) };
    return step.kind === "removeNeighbours" ? { ...step, ips: sorted(step.ips) } : step;
  });
  const isPort = ({ kind }: Step): boolean => kind === "removePort";
  return [...entries.filter((step) => !isPort(step)), ...sorted(entries.filter(isPort))];
};

const sorted = <T>(list: readonly T[]): T[] =>
  list.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

const holds = (kernel: FakeKernel, desired: DesiredNetwork): void => {
  const actual = kernel.readNow(app.id);
  const remotes = entriesOf(desired.remotes);
  expect(new Map(actual.vxlanFdb.map(({ mac, vtep }) => [mac, vtep]))).toEqual(
    new Map(remotes.map(({ mac, vtep }) => [mac, vtep])),
  );
  expect(new Set(actual.bridgeFdb)).toEqual(new Set(remotes.map(({ mac }) => mac)));
  expect(new Map(actual.neighbours.map(({ ip, mac }) => [ip, mac]))).toEqual(
    new Map(remotes.flatMap(({ mac, ips }) => ips.map((ip) => [ip, mac]))),
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

  test("what passes left is planned from as what is read is", () => {
    // As documents are read: what is the same is the same object.
    const members = Array.from({ length: 9 }, (_, n) => ({
      mac: endpoint(2, n + 1).mac,
      ips: addressesOf(withIpv6(endpoint(2, n + 1))),
    }));
    const ports = Array.from({ length: 4 }, (_, n) => ({
      endpoint: endpoint(1, n + 1).id,
      mac: endpoint(1, n + 1).mac,
      ips: addressesOf(endpoint(1, n + 1)),
    }));
    const step = fc.record({
      remotes: fc.uniqueArray(fc.nat(8), { maxLength: 9 }),
      // Below that at one host, beside another, or all at one.
      behind: fc.nat(9),
      moved: fc.nat(8),
      local: fc.subarray(ports),
      prune: fc.boolean(),
      lost: fc.boolean(),
    });
    let fromAgreed = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 2, maxLength: 12 }), (steps) => {
        const kernel = new FakeKernel();
        let held = new HeldNetwork(kernel.readNow(app.id));
        for (const { remotes, behind, moved, local, prune, lost } of steps) {
          const groups = [2, 3].map((k) => ({
            vtep: vtepOf(k),
            members: remotes
              .toSorted((a, b) => a - b)
              .filter((n) => (n < behind && n !== moved) === (k === 2))
              .map((n) => members[n]!),
          }));
          const to = present(
            {
              ...dataPlane(1),
              ports: local,
              remotes: groups.filter((group) => group.members.length > 0),
            },
            prune,
          );
          if (held.agreed.remotes !== undefined) fromAgreed++;
          const steps = plan(held, to);
          expect(inNoOrder(steps)).toEqual(inNoOrder(planned(kernel, to)));
          kernel.applyNow(app.id, steps);
          for (const each of steps) held.carriedOut(each);
          held.reached(to);
          expect(driftOf(held, new HeldNetwork(kernel.readNow(app.id)))).toEqual([]);
          if (!lost || kernel.listNow().length === 0) continue;
          kernel.loseNeighbours(app.id);
          held = new HeldNetwork(kernel.readNow(app.id));
        }
      }),
      { numRuns: 500 },
    );
    expect(fromAgreed).toBeGreaterThan(500);
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
        for (const { mac } of entriesOf(after.remotes)) expect(macs).toContain(mac);
        expect(plan(new HeldNetwork(held), { kind: "keep" })).toEqual([]);
      }),
    );
  });

  test("remotes stand before the ports that need them", () => {
    fc.assert(
      fc.property(wanted, (desired) => {
        fc.pre(entriesOf(desired.remotes).length > 0 && desired.ports.length > 0);
        const kinds = planned(new FakeKernel(), present(desired)).map((step) => step.kind);
        expect(kinds[0]).toBe("extend");
        expect(kinds.lastIndexOf("putRemotes")).toBeLessThan(kinds.indexOf("putPort"));
      }),
    );
  });

  test("neighbours lost with the bridge's link are put back, and they alone", () => {
    const desired = fc.sample(
      wanted.filter(({ remotes }) => entriesOf(remotes).length > 1),
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
