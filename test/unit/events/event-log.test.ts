import { describe, expect, test } from "vitest";
import type { Happening } from "../../../agent/core/events/events.ts";
import { type Event, EventLog, type Question, type Told } from "../../../agent/events/event-log.ts";
import { nodeId } from "../../support/cluster.ts";

const joined = (k: number): Happening => ({
  kind: "host-joined",
  host: `h${k}`,
  node: nodeId(k),
});

function make(options = { kept: 3, followers: 2, behind: 4 }) {
  const clock = { wall: 0, nowMs: () => 0, wallMs: () => clock.wall };
  const log = new EventLog(clock, options);
  /** One event at each second. */
  const happen = (...hosts: number[]): void => {
    for (const k of hosts) {
      clock.wall = k * 1000;
      log.add([joined(k)]);
    }
  };
  const ask = (question: Partial<Question> = {}, signal = new AbortController().signal) =>
    log.read({ follow: false, wanted: () => true, ...question }, signal);
  return { log, clock, happen, ask };
}

const brief = (told: Told): string => (told.kind === "missed" ? `-${told.count}` : hostOf(told));
const hostOf = (event: Event): string => ("host" in event ? event.host : event.kind);

async function all(told: AsyncIterable<Told>): Promise<string[]> {
  const found: string[] = [];
  for await (const one of told) found.push(brief(one));
  return found;
}

describe("the event log", () => {
  test("numbers and dates what it keeps", async () => {
    const { happen, ask } = make();
    happen(1, 2);
    const found: Told[] = [];
    for await (const one of ask()) found.push(one);
    expect(found).toEqual([
      { seq: 1, at: "1970-01-01T00:00:01.000Z", ...joined(1) },
      { seq: 2, at: "1970-01-01T00:00:02.000Z", ...joined(2) },
    ]);
  });

  test("keeps the newest; that others were asked for and are gone is said", async () => {
    const { log, happen, ask, clock } = make();
    happen(1, 2, 3, 4, 5);
    expect(await all(ask())).toEqual(["-2", "h3", "h4", "h5"]);
    // Those that went happened before: nothing of what was asked for is missing.
    clock.wall = 6000;
    expect(await all(ask({ sinceMs: 3000 }))).toEqual(["h3", "h4", "h5"]);
    expect(await all(ask({ sinceMs: 4000 }))).toEqual(["-2", "h3", "h4", "h5"]);
    expect(await all(ask({ sinceMs: 1000 }))).toEqual(["h5"]);
    expect(await all(ask({ sinceMs: 0 }))).toEqual([]);
    expect(log.counters()).toMatchObject({ told: 5, kept: 3, dropped: 2 });
  });

  test("more at once than it keeps", async () => {
    const { log, ask } = make();
    log.add([1, 2, 3, 4, 5].map(joined));
    expect(await all(ask())).toEqual(["-2", "h3", "h4", "h5"]);
  });

  test("only what is wanted", async () => {
    const { happen, ask } = make();
    happen(1, 2, 3);
    expect(await all(ask({ wanted: (event) => hostOf(event) === "h2" }))).toEqual(["h2"]);
  });
});

describe("who follows", () => {
  test("gets what was, then what comes, until it hangs up", async () => {
    const { log, happen, ask } = make();
    happen(1);
    const hangUp = new AbortController();
    const told = ask({ follow: true }, hangUp.signal)[Symbol.asyncIterator]();
    // What comes before it reads the first line is not lost.
    happen(2);
    const next = async (): Promise<string> => brief((await told.next()).value as Told);
    expect([await next(), await next()]).toEqual(["h1", "h2"]);
    const waiting = next();
    happen(3);
    expect(await waiting).toBe("h3");
    expect(log.counters()["followers"]).toBe(1);
    const last = told.next();
    // By then it waits for what comes.
    await new Promise((resolve) => setImmediate(resolve));
    hangUp.abort();
    expect(await last).toEqual({ done: true, value: undefined });
    expect(log.counters()["followers"]).toBe(0);
  });

  test("and reads too slowly is told so, and keeps nobody else from events", async () => {
    const { log, happen, ask } = make();
    const slow = ask({ follow: true });
    const hangUp = new AbortController();
    const quick = ask({ follow: true }, hangUp.signal)[Symbol.asyncIterator]();
    const read: string[] = [];
    for (const k of [1, 2, 3, 4, 5, 6]) {
      happen(k);
      read.push(brief((await quick.next()).value as Told));
    }
    expect(read).toEqual(["h1", "h2", "h3", "h4", "h5", "h6"]);
    await expect(all(slow)).rejects.toThrow(/4 events were not read in time/);
    expect(log.counters()["tooSlow"]).toBe(1);
    hangUp.abort();
  });

  test("what is not wanted keeps nobody waiting", async () => {
    const { happen, ask } = make();
    const hangUp = new AbortController();
    const wanted = (event: Event): boolean => hostOf(event) === "h9";
    const told = all(ask({ follow: true, wanted }, hangUp.signal));
    happen(1, 2, 3, 4, 5, 6, 9);
    hangUp.abort();
    expect(await told).toEqual(["h9"]);
  });

  test("they are so many and no more; whoever ends makes room", async () => {
    const { ask } = make();
    const hangUp = new AbortController();
    ask({ follow: true }, hangUp.signal);
    ask({ follow: true });
    expect(() => ask({ follow: true })).toThrow(/2 commands follow this agent's events already/);
    expect(await all(ask())).toEqual([]);
    hangUp.abort();
    ask({ follow: true });
    expect(() => ask({ follow: true })).toThrow(/already/);
  });

  test("who hung up before it was heard takes no room", () => {
    const { log, ask } = make();
    for (let i = 0; i < 5; i++) ask({ follow: true }, AbortSignal.abort());
    expect(log.counters()["followers"]).toBe(0);
  });

  test("reads to the end, and is told that the agent has ended", async () => {
    const { log, happen, ask } = make();
    const told = ask({ follow: true })[Symbol.asyncIterator]();
    happen(1);
    log.end();
    happen(2);
    expect(brief((await told.next()).value as Told)).toBe("h1");
    await expect(told.next()).rejects.toThrow(/the agent has ended/);
  });
});
