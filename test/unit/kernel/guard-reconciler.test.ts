import { expect, test, vi } from "vitest";
import type { DesiredGuards } from "../../../agent/core/data-plane/kernel-state.ts";
import { desiredGuards } from "../../../agent/core/data-plane/desired-guards.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { GuardReconciler } from "../../../agent/kernel/guard-reconciler.ts";
import type { Guards } from "../../../agent/kernel/port.ts";
import { silentLog } from "../../../shared/ports.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";
import { PATIENT } from "../../support/patient.ts";

function make(set: (desired: DesiredGuards) => Promise<void> = async () => {}) {
  let tamper = (): void => {};
  const guards: Guards = {
    set,
    verify: async () => true,
    counters: async () => ({}),
    work: () => ({ read: 0, written: 0, drifts: 0 }),
    onTamper: (listener) => (tamper = listener),
    remove: async () => {},
    close: async () => {},
  };
  const tables = new Tables();
  tables.mergeState(clusterState(2));
  const changed = vi.fn<() => void>();
  const want = (): DesiredGuards | undefined => desiredGuards(tables, nodeId(1), ["none"]);
  const guardReconciler = new GuardReconciler(guards, silentLog, changed);
  return {
    guardReconciler,
    start: () => guardReconciler.start(want),
    changed,
    tamper: () => tamper(),
  };
}

test("each time that somebody else changes them is counted, told, and put right", async () => {
  const set = vi.fn<() => Promise<void>>(async () => {});
  const { guardReconciler, start, changed, tamper } = make(set);
  await start();
  expect([guardReconciler.tampered(), changed.mock.calls.length]).toEqual([0, 0]);
  tamper();
  tamper();
  expect([guardReconciler.tampered(), changed.mock.calls.length]).toEqual([2, 2]);
  await guardReconciler.settled();
  expect(set.mock.calls.length).toBeGreaterThan(1);
  await guardReconciler.stop();
});

test("a failure is told when it begins and when it is over; success is not told", async () => {
  let fails = false;
  const { guardReconciler, start, changed } = make(async () => {
    if (fails) throw new Error("no nft");
  });
  await start();
  guardReconciler.dirty();
  await guardReconciler.settled();
  expect(changed).not.toHaveBeenCalled();
  fails = true;
  guardReconciler.dirty();
  await vi.waitFor(() => expect(guardReconciler.failure()?.message).toBe("no nft"), PATIENT);
  expect(changed).toHaveBeenCalled();
  fails = false;
  changed.mockClear();
  await guardReconciler.settled();
  await vi.waitFor(() => expect(guardReconciler.failure()).toBeUndefined(), PATIENT);
  expect(changed).toHaveBeenCalledTimes(1);
  await guardReconciler.stop();
});
