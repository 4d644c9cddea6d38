import { beforeEach, expect, test } from "vitest";
import { FORMER_VTEP_MS, OWN_VTEP_STAYS_MS } from "../../../agent/core/data-plane/vtep-moves.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { VtepHandover } from "../../../agent/encryption/vtep-handover.ts";
import type { Ip } from "../../../shared/ip.ts";
import { clusterState, node, nodeId, vtepOf } from "../../support/cluster.ts";

const [A, B] = [vtepOf(1), vtepOf(51)];
let tables: Tables;
let addresses: Set<Ip>;
let nowMs: number;
let due: { atMs: number; run: () => void } | undefined;
let told: { atMs: number; sendsFrom: Ip | undefined; former: number }[];
let looks: number;
let handover: VtepHandover;

beforeEach(() => {
  tables = new Tables();
  tables.mergeState(clusterState(2));
  [addresses, nowMs, due, told, looks] = [new Set([A, B]), 0, undefined, [], 0];
  handover = new VtepHandover({
    self: nodeId(1),
    tables,
    hasAddress: (ip) => addresses.has(ip),
    changed: () => told.push({ atMs: nowMs, ...said() }),
    look: () => looks++,
    clock: { nowMs: () => nowMs },
    timers: {
      after: (ms, run) => {
        const planned = (due = { atMs: nowMs + ms, run });
        return () => (due = due === planned ? undefined : due);
      },
    },
  });
  handover.heard();
});

const said = () => ({ sendsFrom: handover.sendsFrom(), former: handover.former().size });

function hear(): void {
  const moved = { ...node(1), address: B, vtep: B };
  tables.mergeState(clusterState(2, { revision: 2, nodes: [moved, node(2)] }));
  handover.heard();
}

function until(ms: number): void {
  while (due !== undefined && due.atMs <= ms) {
    const { atMs, run } = due;
    nowMs = atMs;
    due = undefined;
    run();
  }
  nowMs = ms;
}

test("nobody changes over: nothing waits, nothing is looked at", () => {
  until(FORMER_VTEP_MS);
  expect([due, looks, said()]).toEqual([undefined, 0, { sendsFrom: undefined, former: 0 }]);
});

test("who has heard is told when this host leaves the former VTEP, and when it counts no more; then nothing waits", () => {
  hear();
  expect(said()).toEqual({ sendsFrom: A, former: 1 });
  until(2 * FORMER_VTEP_MS);
  expect(told).toEqual([
    { atMs: OWN_VTEP_STAYS_MS, sendsFrom: undefined, former: 1 },
    { atMs: FORMER_VTEP_MS, sendsFrom: undefined, former: 0 },
  ]);
  expect(looks).toBe(FORMER_VTEP_MS / 1000);
  expect(due).toBeUndefined();
});

test("what is heard every moment does not keep it from looking", () => {
  hear();
  for (let ms = 500; ms <= 3 * OWN_VTEP_STAYS_MS; ms += 500) {
    until(ms);
    handover.heard();
  }
  expect(looks).toBeGreaterThan(OWN_VTEP_STAYS_MS / 1000);
  expect(handover.sendsFrom()).toBeUndefined();
});

test("the former address is gone already: packets leave from the new one at once, and peers need not know", () => {
  addresses.delete(A);
  hear();
  expect(said()).toEqual({ sendsFrom: undefined, former: 1 });
});

test("it goes meanwhile: the next look says so", () => {
  hear();
  addresses.delete(A);
  until(1000);
  expect(told).toEqual([{ atMs: 1000, sendsFrom: undefined, former: 1 }]);
});

test("stopped, it looks no more", () => {
  hear();
  handover.stop();
  until(FORMER_VTEP_MS);
  expect([looks, told]).toEqual([0, []]);
});
