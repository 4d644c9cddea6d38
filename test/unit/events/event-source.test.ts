import { expect, test, vi } from "vitest";
import { Tables } from "../../../agent/core/tables.ts";
import type { ViewSources } from "../../../agent/core/view.ts";
import { EventLog, type Told } from "../../../agent/event-log.ts";
import { Watching } from "../../../agent/watching.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { systemClock } from "../../../shared/node/system.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";

function make() {
  const tables = new Tables();
  tables.mergeState(clusterState(3));
  const world = { reads: 0, lost: [] as NodeId[], tampered: 0 };
  const sources = (): ViewSources => {
    world.reads++;
    const { tampered } = world;
    const rest = { hosted: new Set<never>(), removed: new Set<never>(), problems: [], tampered };
    return { tables, lost: new Set(world.lost), ...rest };
  };
  const events = new EventLog(systemClock);
  const watching = new Watching(sources, events);
  const kinds = async (): Promise<string[]> => {
    const told: Told[] = [];
    const question = { follow: false, wanted: () => true };
    for await (const one of events.read(question, AbortSignal.abort())) told.push(one);
    return told.map(({ kind }) => kind);
  };
  return { world, events, watching, kinds };
}

test("what was there at the start did not happen; what changes then did", async () => {
  const { world, watching, kinds } = make();
  watching.start();
  world.lost = [nodeId(2)];
  watching.dirty();
  await vi.waitFor(async () => expect(await kinds()).toEqual(["started", "host-unreachable"]));
  world.lost = [];
  watching.dirty();
  await vi.waitFor(async () => expect((await kinds()).at(-1)).toBe("host-back"));
  watching.stop();
});

test("a hundred changes at once are one look, and none is lost", async () => {
  const { world, watching, events } = make();
  watching.start();
  for (let i = 0; i < 100; i++) {
    world.tampered++;
    watching.dirty();
  }
  await vi.waitFor(() => expect(events.counters()["told"]).toBe(2));
  expect(world.reads).toBe(2);
  const told = events.knows((event) => event.kind === "guards-tampered" && event.times === 100);
  expect(told).toBe(true);
  watching.stop();
});

test("before the start and after the end nothing is looked at", async () => {
  vi.useFakeTimers();
  try {
    const { world, watching } = make();
    watching.dirty();
    vi.runAllTimers();
    expect(world.reads).toBe(0);
    watching.start();
    watching.dirty();
    watching.stop();
    watching.dirty();
    vi.runAllTimers();
    expect(world.reads).toBe(1);
  } finally {
    vi.useRealTimers();
  }
});

test("nothing marked, nothing read", () => {
  vi.useFakeTimers();
  try {
    const { world, watching } = make();
    watching.start();
    expect(vi.getTimerCount()).toBe(0);
    watching.dirty();
    vi.runAllTimers();
    expect([world.reads, vi.getTimerCount()]).toEqual([2, 0]);
    watching.stop();
  } finally {
    vi.useRealTimers();
  }
});
