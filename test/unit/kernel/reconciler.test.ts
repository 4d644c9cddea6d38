import { describe, expect, test, vi } from "vitest";
import type { ActualNetwork, Step } from "../../../agent/core/data-plane/kernel-state.ts";
import { nothingOf } from "../../../agent/core/data-plane/held-network.ts";
import { plan } from "../../../agent/core/data-plane/plan.ts";
import {
  DEFAULT_RECONCILER_OPTIONS,
  Reconciler,
  type ReconcilerModules,
} from "../../../agent/kernel/reconciler.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { NetworkId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Mac } from "../../../shared/mac.ts";
import { silentLog } from "../../../shared/ports.ts";
import { FakeKernel } from "../../fakes/fake-kernel.ts";
import { dataPlane, grouped, present } from "../../support/cluster.ts";
import { PATIENT } from "../../support/patient.ts";

const app = NetworkId.parse("a".repeat(32));
const web = NetworkId.parse("b".repeat(32));
const nothing = (network: NetworkId): ActualNetwork => ({ ...nothingOf(network), present: true });
const retract: Step = { kind: "retract" };

function make(overrides: Partial<ReconcilerModules> = {}) {
  const applied: NetworkId[] = [];
  const modules: ReconcilerModules = {
    kernel: {
      read: (network) => Promise.resolve(nothing(network)),
      apply: (network) => {
        applied.push(network);
        return Promise.resolve();
      },
    },
    want: () => ({ kind: "absent" }),
    plan: () => [retract],
    rightWanted: () => true,
    log: silentLog,
    ...overrides,
  };
  const options = { ...DEFAULT_RECONCILER_OPTIONS, retryFirstMs: 1, retryMostMs: 4 };
  return { reconciler: new Reconciler(options, modules), applied };
}

test("a pass reads, plans and applies; a plan of nothing writes nothing", async () => {
  const { reconciler, applied } = make();
  await reconciler.settle(app);
  expect(applied).toEqual([app]);
  const idle = make({ plan: () => [] });
  await idle.reconciler.settle(app);
  expect(idle.applied).toEqual([]);
  expect(idle.reconciler.status(app)).toMatchObject({ passes: 1, stepsApplied: 0 });
  await Promise.all([reconciler.stop(), idle.reconciler.stop()]);
});

test("entries that were dumped and written are counted: what a change costs the kernel", async () => {
  const entry = { mac: "02:42:0a:00:00:02" as Mac, vtep: "198.51.100.2" as Ip };
  const full = (network: NetworkId): ActualNetwork => ({
    ...nothing(network),
    vxlanFdb: [entry, entry],
    bridgeFdb: [entry.mac],
    neighbours: [{ ip: "10.0.0.2" as Ip, mac: entry.mac }],
    flood: [entry.vtep],
  });
  const steps: Step[] = [
    { kind: "putRemotes", remotes: [{ ...entry, ips: ["10.0.0.2" as Ip, "fd00::2" as Ip] }] },
    { kind: "removeNeighbours", ips: ["10.0.0.3" as Ip] },
    { kind: "putFlood", vteps: [entry.vtep] },
  ];
  const { reconciler } = make({
    kernel: { read: (network) => Promise.resolve(full(network)), apply: () => Promise.resolve() },
    plan: () => steps,
  });
  await reconciler.settle(app);
  expect(reconciler.status(app)).toMatchObject({ entriesRead: 5, entriesWritten: 5 });
  await reconciler.stop();
});

test("a hundred events cost two passes: the first at once, the rest together", async () => {
  const { reconciler } = make();
  for (let i = 0; i < 100; i++) reconciler.dirty(app);
  await vi.waitFor(() => expect(reconciler.status(app)?.passes).toBe(2), PATIENT);
  await reconciler.settle(app);
  expect(reconciler.status(app)?.passes).toBe(3);
  await reconciler.stop();
});

test("settle waits for a pass that began after it", async () => {
  const reads: (() => void)[] = [];
  let wanted = 0;
  const seen: number[] = [];
  const { reconciler } = make({
    kernel: {
      read: (network) => new Promise((resolve) => reads.push(() => resolve(nothing(network)))),
      apply: () => Promise.resolve(),
    },
    want: () => {
      seen.push(wanted);
      return { kind: "absent" };
    },
  });
  reconciler.changedOutside(app);
  await vi.waitFor(() => expect(reads.length).toBe(1), PATIENT);
  let settled = false;
  reconciler.changedOutside(app);
  const settling = reconciler.settle(app).then(() => {
    settled = true;
  });
  reads[0]?.();
  await vi.waitFor(() => expect(reads.length).toBe(2), PATIENT);
  expect(settled).toBe(false);
  wanted = 1;
  reads[1]?.();
  await settling;
  expect(seen).toEqual([0, 1]);
  await reconciler.stop();
});

test("a failed pass is told to who waits, retried until it works, and stops no other network", async () => {
  let failing = true;
  const applied: NetworkId[] = [];
  const { reconciler } = make({
    kernel: {
      read: (network) => Promise.resolve(nothing(network)),
      apply: (network) => {
        if (network === app && failing)
          throw new OverlayError({
            code: "NETLINK",
            op: "RTM_NEWLINK",
            errno: "EBUSY",
            message: "busy",
          });
        applied.push(network);
        return Promise.resolve();
      },
    },
  });
  await expect(reconciler.settle(app)).rejects.toMatchObject({ errno: "EBUSY" });
  await vi.waitFor(() => expect(reconciler.status(app)?.failures).toBeGreaterThan(2), PATIENT);
  expect(reconciler.status(app)?.failure).toMatchObject({ code: "NETLINK", errno: "EBUSY" });
  await reconciler.settle(web);
  expect(applied).toEqual([web]);
  failing = false;
  await vi.waitFor(() => expect(applied).toEqual([web, app]), PATIENT);
  await vi.waitFor(() => expect(reconciler.status(app)?.failure).toBeUndefined(), PATIENT);
  await reconciler.stop();
});

test("the same failure again is logged once, another one too", async () => {
  const lines: unknown[] = [];
  const texts = ["one", "one", "one", "two", "two"];
  const { reconciler } = make({
    kernel: {
      read: (network) => {
        const text = texts.shift();
        return text === undefined
          ? Promise.resolve(nothing(network))
          : Promise.reject(new Error(text));
      },
      apply: () => Promise.resolve(),
    },
    log: { ...silentLog, warn: ({ message }) => lines.push(message) },
  });
  reconciler.dirty(app);
  await vi.waitFor(
    () => expect(reconciler.status(app)).toMatchObject({ failures: 5, passes: 6 }),
    PATIENT,
  );
  expect(lines).toEqual(["one", "two"]);
  await reconciler.stop();
});

test("after stop nothing is applied any more", async () => {
  const { reconciler, applied } = make();
  await reconciler.stop();
  reconciler.dirty(app);
  await expect(reconciler.settle(app)).rejects.toMatchObject({ code: "INTERNAL" });
  expect(applied).toEqual([]);
});

test("a pass that does not end is told by since when; a network that waits has none", async () => {
  const read = Promise.withResolvers<ActualNetwork>();
  const { reconciler } = make({
    kernel: { read: () => read.promise, apply: () => Promise.resolve() },
  });
  expect(reconciler.passSinceMs()).toBeUndefined();
  const beforeMs = performance.now();
  const settled = reconciler.settle(app);
  expect(reconciler.passSinceMs()).toBeGreaterThanOrEqual(beforeMs);
  read.resolve(nothing(app));
  await settled;
  expect(reconciler.passSinceMs()).toBeUndefined();
});

describe("what the kernel holds is known from what passes left there", () => {
  const ip = "10.0.0.2" as Ip;
  const mac = "02:42:0a:00:00:02" as Mac;
  const remote = { mac, vtep: "198.51.100.2" as Ip, ips: [ip] };

  /** Counts reads; `apply` is the fake's own, and fails while `failing`. */
  function overFake(log = silentLog) {
    const kernel = new FakeKernel();
    const state = { wanted: present(dataPlane(1)), failing: false, reads: 0, right: true };
    const { reconciler } = make({
      kernel: {
        read: (network) => {
          state.reads++;
          return kernel.read(network);
        },
        apply: (network, steps) =>
          state.failing ? Promise.reject(new Error("busy")) : kernel.apply(network, steps),
      },
      want: () => state.wanted,
      rightWanted: () => state.right,
      plan,
      log,
    });
    kernel.onChange((network) => reconciler.changedOutside(network));
    const pass = () => reconciler.settle(network);
    const neighbours = () => kernel.readNow(network).neighbours;
    return { kernel, reconciler, state, pass, neighbours };
  }
  const { network } = dataPlane(1);
  const remotes = grouped([remote]);
  const withRemote = present({ ...dataPlane(1), remotes });
  const without = present({ ...dataPlane(1), remotes: [] });

  test("devices that were made are looked at once; then nothing is read, whatever changes", async () => {
    const { state, pass, reconciler, neighbours } = overFake();
    await pass();
    await pass();
    expect(state.reads).toBe(2);
    for (const wanted of [withRemote, without, withRemote]) {
      state.wanted = wanted;
      await pass();
      expect(neighbours()).toEqual(wanted === withRemote ? [{ ip, mac }] : []);
    }
    expect(state.reads).toBe(2);
    expect(reconciler.status(network)).toMatchObject({ drifts: 0 });
    await reconciler.stop();
  });

  test("a loss that the kernel tells of is read, and put back", async () => {
    const { kernel, state, pass, reconciler, neighbours } = overFake();
    state.wanted = withRemote;
    await pass();
    await pass();
    const { reads } = state;
    kernel.loseNeighbours(network);
    await pass();
    expect(neighbours()).toEqual([{ ip, mac }]);
    expect(state.reads).toBe(reads + 1);
    await reconciler.stop();
  });

  test("also one during a pass, of which that pass knew nothing", async () => {
    const { kernel, state, pass, reconciler, neighbours } = overFake();
    state.wanted = withRemote;
    await pass();
    await pass();
    const passing = pass();
    kernel.loseNeighbours(network);
    await passing;
    await pass();
    expect(neighbours()).toEqual([{ ip, mac }]);
    await reconciler.stop();
  });

  test("after a failure it is read: of the steps some may have been carried out", async () => {
    const { state, pass, reconciler, neighbours } = overFake();
    await pass();
    await pass();
    const { reads } = state;
    Object.assign(state, { wanted: withRemote, failing: true });
    await expect(pass()).rejects.toThrow("busy");
    state.failing = false;
    await pass();
    expect(neighbours()).toEqual([{ ip, mac }]);
    expect(state.reads).toBeGreaterThan(reads);
    await reconciler.stop();
  });

  test("a check reads and compares: what nobody told of is counted, said and mended", async () => {
    const said: unknown[] = [];
    const log = { ...silentLog, warn: (fields: object) => void said.push(fields) };
    const { kernel, state, pass, reconciler, neighbours } = overFake(log);
    state.wanted = withRemote;
    await pass();
    await pass();
    const { entriesCompared } = reconciler.totals();
    reconciler.check(network);
    await pass();
    // One forwarding entry in each of two tables, and a neighbour.
    expect(reconciler.totals()).toMatchObject({
      drifts: 0,
      entriesCompared: entriesCompared + 3,
    });
    kernel.applyNow(network, [{ kind: "removeNeighbours", ips: [ip] }]);
    await pass();
    expect(neighbours()).toEqual([]);
    reconciler.check(network);
    await pass();
    expect(neighbours()).toEqual([{ ip, mac }]);
    expect(reconciler.status(network)).toMatchObject({ drifts: 1 });
    expect(said).toEqual([{ network, drift: ["neighbours"] }]);
    await reconciler.stop();
  });

  test("what wants the same of the kernel makes no pass; what wants something else makes one", async () => {
    const { state, pass, reconciler, neighbours } = overFake();
    state.wanted = withRemote;
    await pass();
    await pass();
    const passes = (of = network): number => reconciler.status(of)?.passes ?? 0;
    // As it is made again for each document that comes.
    state.wanted = present({ ...dataPlane(1), remotes: remotes.map((group) => ({ ...group })) });
    reconciler.changed(network);
    // Two of another network's, one after the other: a pass that was due is over.
    for (const count of [1, 2]) {
      reconciler.dirty(app);
      await vi.waitFor(() => expect(passes(app)).toBe(count), PATIENT);
    }
    expect(passes()).toBe(2);
    state.wanted = without;
    reconciler.changed(network);
    await vi.waitFor(() => expect(neighbours()).toEqual([]), PATIENT);
    expect(passes()).toBe(3);
    await reconciler.stop();
  });

  test("that what is wanted was not what the whole says is counted as well", async () => {
    const { state, pass, reconciler } = overFake();
    await pass();
    state.right = false;
    await pass();
    expect(reconciler.status(network)).toMatchObject({ drifts: 0 });
    reconciler.check(network);
    await pass();
    expect(reconciler.status(network)).toMatchObject({ drifts: 1 });
    await reconciler.stop();
  });
});
