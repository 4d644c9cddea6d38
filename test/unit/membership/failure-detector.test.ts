import { expect, test, vi } from "vitest";
import { DEFAULT_PRESENCE_OPTIONS } from "../../../agent/core/liveness/failure-detector.ts";
import { desiredProof } from "../../../agent/core/liveness/proofs.ts";
import type { DataPathProof } from "../../../agent/kernel/port.ts";
import { FailureDetector } from "../../../agent/membership/failure-detector.ts";
import { systemClock, systemTimers } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";

const modules = {
  encryption: "none",
  presence: DEFAULT_PRESENCE_OPTIONS,
  desired: () => desiredProof(clusterState(2), nodeId(1)),
  near: () => new Set([nodeId(2)]),
  name: () => "h2",
  changed: () => {},
  clock: systemClock,
  timers: systemTimers,
  log: silentLog,
} as const;

test("stopped while its device is being made: sockets are closed after that, and none is opened", async () => {
  const done: string[] = [];
  const making = Promise.withResolvers<void>();
  const proof = {
    set: async () => {
      await making.promise;
      done.push("set");
    },
    faults: async () => [],
    onLoss: () => {},
    probe: () => Promise.reject(new Error("stopped")),
    remove: async () => {},
    close: async () => void done.push("close"),
  };
  const failureDetector = new FailureDetector({ ...modules, proof });
  const updated = failureDetector.update();
  const stopped = failureDetector.stop();
  making.resolve();
  await updated;
  await stopped;
  await failureDetector.update();
  expect(done).toEqual(["set", "close"]);
});

test("a host that only small packets reach is not lost, and said to be reached by no large ones", async () => {
  vi.useFakeTimers();
  try {
    let mtuBytes = 1500;
    let up = true;
    const sizes: number[] = [];
    const answers = (bytes: number): boolean => up && bytes <= mtuBytes;
    const proof: DataPathProof = {
      set: async () => {},
      faults: async () => [],
      onLoss: () => {},
      probe: async (address, timeoutMs, bytes = 1450) => {
        sizes.push(bytes);
        if (!answers(bytes)) await new Promise((resolve) => setTimeout(resolve, timeoutMs));
        return { address, bytes, roundTripMs: answers(bytes) ? 1 : undefined };
      },
      remove: async () => {},
      close: async () => {},
    };
    const failureDetector = new FailureDetector({ ...modules, proof });
    failureDetector.start();
    await vi.advanceTimersByTimeAsync(3000);
    expect(new Set(sizes)).toEqual(new Set([1450]));
    expect(failureDetector.failure()).toBeUndefined();

    mtuBytes = 1400;
    await vi.advanceTimersByTimeAsync(10_000);
    expect(failureDetector.found().lost).toEqual(new Set());
    expect(failureDetector.failure()?.message).toContain("packets of 1450 bytes do not reach h2");

    up = false;
    await vi.advanceTimersByTimeAsync(2200);
    expect(failureDetector.found().lost).toEqual(new Set([nodeId(2)]));

    up = true;
    mtuBytes = 1500;
    await vi.advanceTimersByTimeAsync(3000);
    expect(failureDetector.found().lost).toEqual(new Set());
    expect(failureDetector.failure()).toBeUndefined();
    await failureDetector.stop();
  } finally {
    vi.useRealTimers();
  }
});

test("a host that comes costs its own entries: what stands is looked at only when it may be another", async () => {
  let members = 2;
  let fails = false;
  /** Of each write: hosts that are to stand, and that stand by what was written; undefined: all is looked at. */
  const written: [number, number | undefined][] = [];
  const proof: DataPathProof = {
    set: async ({ peers }, stands) => {
      written.push([peers.length, stands?.peers.length]);
      if (fails) throw new Error("no memory");
    },
    faults: async () => [],
    onLoss: () => {},
    probe: () => Promise.reject(new Error("not started")),
    remove: async () => {},
    close: async () => {},
  };
  const desired = () => desiredProof(clusterState(members), nodeId(1));
  const failureDetector = new FailureDetector({ ...modules, desired, proof });
  const joins = (): Promise<unknown> => {
    members++;
    return failureDetector.update();
  };
  await failureDetector.update();
  await joins();
  // Side by side.
  await Promise.all([joins(), joins()]);
  failureDetector.check();
  await failureDetector.update();
  fails = true;
  await expect(joins()).rejects.toThrow("no memory");
  fails = false;
  await joins();
  await joins();
  await failureDetector.stop();
  expect(written).toEqual([
    [1, undefined],
    [2, 1],
    [3, 2],
    [4, 3],
    [4, undefined],
    [5, 4],
    [6, undefined],
    [7, 6],
  ]);
});
