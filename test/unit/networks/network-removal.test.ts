import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Bindings } from "../../../agent/networks/bindings.ts";
import { NetworkRemoval } from "../../../agent/networks/network-removal.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { systemClock } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { app, clusterState, nodeId } from "../../support/cluster.ts";

const self = nodeId(1);
const { blocks, ...rest } = clusterState(4);
/** Hosts 1 to 3 have a block of `app` each, 4 has none. */
const state = { ...rest, blocks: blocks.filter(({ node }) => node !== nodeId(4)) };
let needing: NodeId[];
let removed: unknown[];
let bindings: Bindings;

beforeEach(() => {
  vi.useFakeTimers();
  [needing, removed] = [[], []];
  bindings = new Bindings(new Disk(new MemoryStore()));
  bindings.markRemoved(app.id);
});

afterEach(() => {
  vi.useRealTimers();
});

function endingOf(createdBy: NodeId, lost: readonly NodeId[] = []): NetworkRemoval {
  return new NetworkRemoval({
    self,
    bindings,
    clock: systemClock,
    localNetworks: { find: () => ({ ...app, createdBy }) },
    replication: {
      tables: {
        state,
        get hosts() {
          return new Map(needing.map((node) => [node, { node, hosting: [app.id] }]));
        },
      } as never,
    },
    controller: {
      request: (request) => {
        removed.push(request);
        return Promise.resolve({ kind: "done" } as never);
      },
    },
    lost: () => new Set(lost),
    log: silentLog,
  });
}

const undecided = (): boolean => bindings.removed().has(app.id);

test("made here and needed by nobody, it ends", async () => {
  await endingOf(self).decide(app.id);
  expect(removed).toEqual([{ v: 1, kind: "removeNetwork", network: app.id }]);
  expect(undecided()).toBe(false);
});

test("another host's word that it needs it no more has its time to come", async () => {
  const networkRemoval = endingOf(self);
  needing = [nodeId(2)];
  await networkRemoval.decide(app.id);
  vi.advanceTimersByTime(1000);
  await networkRemoval.decide(app.id);
  expect(undecided()).toBe(true);
  needing = [];
  await networkRemoval.decide(app.id);
  expect(removed).toHaveLength(1);
  expect(undecided()).toBe(false);
});

test("what another host still needs then is put back, and each time anew", async () => {
  const networkRemoval = endingOf(self);
  needing = [nodeId(2)];
  for (let round = 0; round < 2; round++) {
    bindings.markRemoved(app.id);
    await networkRemoval.decide(app.id);
    expect(undecided()).toBe(true);
    vi.advanceTimersByTime(2000);
    await networkRemoval.decide(app.id);
    expect(undecided()).toBe(false);
  }
  expect(removed).toEqual([]);
});

test("it does not end while a host is out of reach that has addresses of it; without any it could not use it", async () => {
  await endingOf(self, [nodeId(3)]).decide(app.id);
  expect(removed).toEqual([]);
  expect(undecided()).toBe(false);
  bindings.markRemoved(app.id);
  await endingOf(self, [nodeId(4)]).decide(app.id);
  expect(removed).toHaveLength(1);
});

test.each([
  ["needed by a container here", self, self],
  ["made on another host", nodeId(2), undefined],
])("%s, it is put back at once", async (_, createdBy, needs) => {
  needing = needs === undefined ? [] : [needs];
  await endingOf(createdBy).decide(app.id);
  expect(removed).toEqual([]);
  expect(undecided()).toBe(false);
});
