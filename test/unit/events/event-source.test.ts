import { expect, test, vi } from "vitest";
import { Tables } from "../../../agent/core/tables/tables.ts";
import type { Problem, ViewSources } from "../../../agent/core/events/view.ts";
import { EventLog, type Told } from "../../../agent/events/event-log.ts";
import { EventSource } from "../../../agent/events/event-source.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { systemClock } from "../../../shared/node/system.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";
import { PATIENT } from "../../support/patient.ts";

function make() {
  const tables = new Tables();
  tables.mergeState(clusterState(3));
  const world = { reads: 0, lost: [] as NodeId[], tampered: 0, problems: [] as Problem[] };
  const sources = (): ViewSources => {
    world.reads++;
    const { tampered, problems } = world;
    const rest = { hosted: new Set<never>(), removed: new Set<never>(), problems, tampered };
    return { tables, lost: new Set(world.lost), ...rest };
  };
  const events = new EventLog(systemClock);
  const eventSource = new EventSource(sources, events);
  const kinds = async (): Promise<string[]> => {
    const told: Told[] = [];
    const question = { follow: false, wanted: () => true };
    for await (const one of events.read(question, AbortSignal.abort())) told.push(one);
    return told.map(({ kind }) => kind);
  };
  return { world, events, eventSource, kinds };
}

test("what was there at the start did not happen; what changes then did", async () => {
  const { world, eventSource, kinds } = make();
  eventSource.start();
  world.lost = [nodeId(2)];
  eventSource.dirty();
  await vi.waitFor(
    async () => expect(await kinds()).toEqual(["started", "host-unreachable"]),
    PATIENT,
  );
  world.lost = [];
  eventSource.dirty();
  await vi.waitFor(async () => expect((await kinds()).at(-1)).toBe("host-back"), PATIENT);
  eventSource.stop();
});

test("a problem that is there at the start is told, and that it has ended", async () => {
  const { world, eventSource, kinds } = make();
  world.problems = [{ what: "kernel", network: undefined, message: "a port is taken" }];
  eventSource.start();
  expect(await kinds()).toEqual(["started", "problem"]);
  world.problems = [];
  eventSource.dirty();
  await vi.waitFor(async () => expect((await kinds()).at(-1)).toBe("recovered"), PATIENT);
  eventSource.stop();
});

test("a hundred changes at once are one look, and none is lost", async () => {
  const { world, eventSource, events } = make();
  eventSource.start();
  for (let i = 0; i < 100; i++) {
    world.tampered++;
    eventSource.dirty();
  }
  await vi.waitFor(() => expect(events.counters()["told"]).toBe(2), PATIENT);
  expect(world.reads).toBe(2);
  const told = events.knows((event) => event.kind === "guards-tampered" && event.times === 100);
  expect(told).toBe(true);
  eventSource.stop();
});

test("before the start and after the end nothing is looked at", async () => {
  vi.useFakeTimers();
  try {
    const { world, eventSource } = make();
    eventSource.dirty();
    vi.runAllTimers();
    expect(world.reads).toBe(0);
    eventSource.start();
    eventSource.dirty();
    eventSource.stop();
    eventSource.dirty();
    vi.runAllTimers();
    expect(world.reads).toBe(1);
  } finally {
    vi.useRealTimers();
  }
});

test("nothing marked, nothing read", () => {
  vi.useFakeTimers();
  try {
    const { world, eventSource } = make();
    eventSource.start();
    expect(vi.getTimerCount()).toBe(0);
    eventSource.dirty();
    vi.runAllTimers();
    expect([world.reads, vi.getTimerCount()]).toEqual([2, 0]);
    eventSource.stop();
  } finally {
    vi.useRealTimers();
  }
});
