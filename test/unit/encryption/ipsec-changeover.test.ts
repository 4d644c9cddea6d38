import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { IpsecClass } from "../../../agent/encryption/ipsec/class.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { systemClock, systemRandom } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { FakeIpsec } from "../../fakes/fake-ipsec.ts";
import { app, clusterState, hostDocument, node, nodeId, vtepOf } from "../../support/cluster.ts";
import { MemoryKeyChannels } from "../../support/memory-key-channel.ts";

const HOSTS = [1, 2, 3];
/** The second host's, before and after. */
const [A, B] = [vtepOf(2), vtepOf(52)];

function state(revision: number, vtep: Ip): ClusterState {
  const nodes = [node(1), { ...node(2), address: vtep, vtep }, node(3)];
  return clusterState(3, { revision, nodes, networks: [{ ...app, encryption: "ipsec" }] });
}

let channels: MemoryKeyChannels;
let hosts: Host[];
/** Pairs of which a packet would not have arrived, at whichever step of whomever. */
let cut: Set<string>;
let watching: boolean;

/** One host's class on a kernel in memory. */
class Host {
  readonly k: number;
  readonly tables = new Tables();
  readonly addresses = new Set<Ip>();
  readonly lost = new Set<NodeId>();
  readonly class: IpsecClass;
  kernel = new FakeIpsec();
  sendsFrom: Ip | undefined;
  pastMs = 0;

  constructor(k: number) {
    this.k = k;
    this.addresses.add(vtepOf(k));
    this.tables.mergeState(state(1, A));
    for (const j of HOSTS) this.tables.mergeHost(hostDocument(j, { hosting: [app.id] }));
    this.class = new IpsecClass({
      self: nodeId(k),
      tables: this.tables,
      stateIsFresh: () => true,
      lost: () => this.lost,
      handover: {
        sendsFrom: () => this.sendsFrom,
        isHere: (ip) => this.addresses.has(ip),
      },
      makeKernel: (local) => watched((this.kernel = new FakeIpsec(local, this.kernel))),
      channel: channels.of(nodeId(k)),
      opened: () => Promise.resolve(),
      classDown: () => Promise.resolve(),
      pathsChanged: look,
      seenChanged: () => {},
      clock: { ...systemClock, nowMs: () => systemClock.nowMs() + this.pastMs },
      random: systemRandom,
      log: silentLog,
    });
  }

  hear(newer: ClusterState): void {
    this.tables.mergeState(newer);
    this.class.dirty();
  }

  /** What its packets to the other one would meet. */
  reaches({ k, kernel, addresses }: Host): boolean {
    const paths = this.class.paths();
    const to = paths?.remote.get(nodeId(k));
    if (paths === undefined || to === undefined || !addresses.has(to)) return false;
    const sa = this.kernel.sendsBy(paths.local, to);
    return sa !== undefined && kernel.letsIn(sa, this.kernel.keyOf(sa));
  }
}

const pairs = (): [Host, Host][] =>
  hosts.flatMap((from) => hosts.filter((to) => to !== from).map((to): [Host, Host] => [from, to]));

function look(): void {
  if (!watching) return;
  for (const [from, to] of pairs()) if (!from.reaches(to)) cut.add(`${from.k} to ${to.k}`);
}

/** After each write. */
function watched(kernel: FakeIpsec): FakeIpsec {
  for (const write of ["put", "remove", "setPolicies", "removeElsewhere"] as const) {
    const real = kernel[write].bind(kernel) as (...args: unknown[]) => Promise<void>;
    kernel[write] = async (...args: unknown[]) => {
      await real(...args);
      look();
    };
  }
  return kernel;
}

const soon = (what: () => unknown) => expect.poll(what, { timeout: 20_000 });
const whole = () => soon(() => pairs().every(([from, to]) => from.reaches(to))).toBe(true);

beforeEach(async () => {
  [channels, cut, watching] = [new MemoryKeyChannels(), new Set(), false];
  hosts = HOSTS.map((k) => new Host(k));
  for (const host of hosts) host.class.dirty();
  await whole();
  watching = true;
});
afterEach(async () => {
  watching = false;
  for (const host of hosts) await host.class.stop();
});

/** The second host has both addresses, and sends from the former one until `leave`. */
function plan(): { readonly moved: Host; readonly leave: () => Promise<void> } {
  const moved = hosts[1]!;
  moved.addresses.add(B);
  moved.sendsFrom = A;
  return {
    moved,
    leave: async () => {
      moved.sendsFrom = undefined;
      await soon(() => (moved.class.dirty(), moved.class.paths()?.local)).toBe(B);
    },
  };
}

const toMoved = () => [0, 2].map((i) => hosts[i]!.class.paths()?.remote.get(nodeId(2)));

describe("a host that has two addresses changes over", () => {
  test.each([
    ["itself first", [2, 1, 3]],
    ["itself last", [1, 3, 2]],
    ["itself between the others", [3, 2, 1]],
  ])("heard by %s: no packet meets a key that is not there", async (_, order) => {
    const { moved, leave } = plan();
    for (const k of order) {
      hosts[k - 1]!.hear(state(2, B));
      // It has asked, and was refused by who has not heard yet.
      const { requests } = channels;
      await soon(() => channels.requests).toBeGreaterThan(requests);
    }
    await soon(toMoved).toEqual([B, B]);
    expect([moved.class.paths()?.local, moved.class.isChangingOver()]).toEqual([A, true]);
    await leave();
    expect(moved.class.isChangingOver()).toBe(false);
    await whole();
    expect([...cut]).toEqual([]);
  });

  test("keys and policies of the former address stay until packets have left it for a while", async () => {
    const { moved, leave } = plan();
    for (const host of hosts) host.hear(state(2, B));
    await soon(toMoved).toEqual([B, B]);
    const ofFormer = async () => {
      const held = await moved.kernel.list();
      const count = held.filter(({ source, destination }) => [source, destination].includes(A));
      return [count.length, await new FakeIpsec(A, moved.kernel).verifyPolicies()];
    };
    for (const at of ["before", "right after"]) {
      if (at === "right after") await leave();
      // What the first reading would have removed is removed before the second.
      const readings = vi.spyOn(moved.kernel, "list");
      await soon(() => (moved.class.check(), readings.mock.calls.length)).toBeGreaterThan(1);
      readings.mockRestore();
      expect(await ofFormer()).toEqual([4, true]);
    }
    moved.pastMs = 10_000;
    await soon(async () => (moved.class.check(), await ofFormer())).toEqual([0, false]);
    expect([...cut]).toEqual([]);
  });

  test("a peer that is away keeps nobody at the former address for ever, one that is lost not at all", async () => {
    watching = false;
    const { moved, leave } = plan();
    channels.cut.add(nodeId(3));
    hosts[0]!.hear(state(2, B));
    moved.hear(state(2, B));
    moved.sendsFrom = undefined;
    await soon(() => toMoved()[0]).toBe(B);
    moved.class.dirty();
    await moved.class.tried();
    expect(moved.class.paths()?.local).toBe(A);
    moved.lost.add(nodeId(3));
    await leave();
  });

  test("its time is a minute where a peer has no key", async () => {
    watching = false;
    const { moved, leave } = plan();
    channels.cut.add(nodeId(3));
    for (const host of hosts.slice(0, 2)) host.hear(state(2, B));
    await soon(() => toMoved()[0]).toBe(B);
    expect(moved.class.paths()?.local).toBe(A);
    moved.pastMs = 60_000;
    await leave();
  });

  test("the former address goes meanwhile: packets leave from the new one at once", async () => {
    watching = false;
    const { moved } = plan();
    for (const host of hosts) host.hear(state(2, B));
    await soon(() => moved.class.isChangingOver()).toBe(true);
    moved.addresses.delete(A);
    moved.class.dirty();
    await soon(() => moved.class.paths()?.local).toBe(B);
    await whole();
  });

  test("it goes back before it has left: the keys of the first address are in use all the time", async () => {
    const { moved } = plan();
    for (const host of hosts) host.hear(state(2, B));
    await soon(toMoved).toEqual([B, B]);
    for (const host of hosts) host.hear(state(3, A));
    moved.sendsFrom = undefined;
    await soon(() => [moved.class.isChangingOver(), moved.class.paths()?.local]).toEqual([
      false,
      A,
    ]);
    await whole();
    expect([...cut]).toEqual([]);
  });
});

test("a host whose former address is gone already has its new paths as soon as its keys are there", async () => {
  watching = false;
  const moved = hosts[1]!;
  moved.addresses.delete(A);
  moved.addresses.add(B);
  for (const host of hosts) host.hear(state(2, B));
  await soon(() => moved.class.paths()?.local).toBe(B);
  expect(moved.class.isChangingOver()).toBe(false);
  await whole();
});
