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
    expect(sizes).toEqual([1450, 48, 48, 48]);
    expect(failureDetector.failure()).toBeUndefined();

    mtuBytes = 1400;
    await vi.advanceTimersByTimeAsync(30_000);
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

/** Each host answers; of `hosts` others that share a network, for so many seconds. */
async function quiet(hosts: number, seconds: number) {
  vi.useFakeTimers();
  try {
    const seen = { probes: 0, bytes: 0, changes: 0, answering: 0 };
    const state = clusterState(hosts + 1);
    const failureDetector = new FailureDetector({
      ...modules,
      desired: () => desiredProof(state, nodeId(1)),
      near: () => new Set(state.nodes.map(({ id }) => id)),
      changed: () => seen.changes++,
      proof: {
        set: async () => {},
        faults: async () => [],
        onLoss: () => {},
        probe: async (address, _timeoutMs, bytes = 1450) => {
          seen.probes++;
          // There and back.
          seen.bytes += 2 * bytes;
          return { address, bytes, roundTripMs: 1 };
        },
        remove: async () => {},
        close: async () => {},
      },
    });
    failureDetector.start();
    await vi.advanceTimersByTimeAsync(seconds * 1000);
    seen.answering = failureDetector.found().answering.size;
    await failureDetector.stop();
    return seen;
  } finally {
    vi.useRealTimers();
  }
}

test("of many hosts that answer as before nothing is looked through: what was found is the same", async () => {
  const [hosts, seconds] = [50, 20];
  const { probes, changes, answering } = await quiet(hosts, seconds);
  expect(answering).toBe(hosts);
  expect(probes).toBeGreaterThanOrEqual(hosts * seconds);
  // Once each, with the first answer, and once with the state.
  expect(changes).toBeLessThanOrEqual(hosts + 2);
});

test("a minute of questions to a host that is there, each second, is less than 12 KB", async () => {
  const [first, both] = [await quiet(1, 60), await quiet(1, 120)];
  expect(both.probes - first.probes).toBeGreaterThanOrEqual(60);
  expect(both.bytes - first.bytes).toBeLessThan(12_000);
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
