import { expect, test, vi } from "vitest";
import type { DesiredGuards } from "../../../agent/core/data-plane.ts";
import { desiredGuards } from "../../../agent/core/desired.ts";
import { Tables } from "../../../agent/core/tables.ts";
import { Guarding } from "../../../agent/guarding.ts";
import type { Guards } from "../../../agent/kernel/port.ts";
import { silentLog } from "../../../shared/ports.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";

function make(set: (desired: DesiredGuards) => Promise<void> = async () => {}) {
  let tamper = (): void => {};
  const guards: Guards = {
    set,
    verify: async () => true,
    counters: async () => ({}),
    onTamper: (listener) => (tamper = listener),
    remove: async () => {},
    close: async () => {},
  };
  const tables = new Tables();
  tables.mergeState(clusterState(2));
  const changed = vi.fn<() => void>();
  const want = (): DesiredGuards | undefined => desiredGuards(tables, nodeId(1), ["none"]);
  const guarding = new Guarding(guards, want, silentLog, changed);
  return { guarding, changed, tamper: () => tamper() };
}

test("each time that somebody else changes them is counted, told, and put right", async () => {
  const set = vi.fn<() => Promise<void>>(async () => {});
  const { guarding, changed, tamper } = make(set);
  await guarding.start();
  expect([guarding.tampered(), changed.mock.calls.length]).toEqual([0, 0]);
  tamper();
  tamper();
  expect([guarding.tampered(), changed.mock.calls.length]).toEqual([2, 2]);
  await guarding.settled();
  expect(set.mock.calls.length).toBeGreaterThan(1);
  await guarding.stop();
});

test("a failure is told when it begins and when it is over; success is not told", async () => {
  let fails = false;
  const { guarding, changed } = make(async () => {
    if (fails) throw new Error("no nft");
  });
  await guarding.start();
  guarding.dirty();
  await guarding.settled();
  expect(changed).not.toHaveBeenCalled();
  fails = true;
  guarding.dirty();
  await vi.waitFor(() => expect(guarding.failure()?.message).toBe("no nft"));
  expect(changed).toHaveBeenCalled();
  fails = false;
  changed.mockClear();
  await guarding.settled();
  await vi.waitFor(() => expect(guarding.failure()).toBeUndefined());
  expect(changed).toHaveBeenCalledTimes(1);
  await guarding.stop();
});
