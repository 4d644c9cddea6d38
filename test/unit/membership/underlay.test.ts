import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { MemberRequest } from "../../../agent/membership/controller-link.ts";
import { Underlay } from "../../../agent/membership/underlay.ts";
import type { NodeRecord } from "../../../shared/cluster-state.ts";
import { type ErrorCode, OverlayError } from "../../../shared/errors.ts";
import { Cidr } from "../../../shared/ip.ts";
import type { UnderlayFacts } from "../../../shared/underlay.ts";
import { app, clusterState, node } from "../../support/cluster.ts";
import { FakeLinks } from "../../support/fake-host.ts";

const facts = (underlayMtuBytes: number, ...texts: string[]): UnderlayFacts => ({
  underlayMtuBytes,
  ownSubnets: texts.map((text) => Cidr.parse(text)),
});

let links: FakeLinks;
let own: NodeRecord;
let refuses: ErrorCode | undefined;
let asked: MemberRequest[];
let logged: string[];
let underlay: Underlay;

beforeEach(() => {
  vi.useFakeTimers();
  links = new FakeLinks();
  own = node(2);
  refuses = undefined;
  [asked, logged] = [[], []];
  const log = (_: object, message: string): void => void logged.push(message);
  underlay = new Underlay({
    links,
    state: () => clusterState(2),
    own: () => own,
    used: () => new Set([app.id]),
    controller: {
      request: async (request) => {
        asked.push(request);
        if (refuses !== undefined) throw new OverlayError({ code: refuses, message: "no" });
        if (request.kind === "underlay") own = { ...own, ...request.facts };
        return {} as never;
      },
    },
    changed: () => {},
    clock: { nowMs: () => Date.now() },
    log: { debug: log, info: log, warn: log, error: log },
  });
  underlay.start();
});

afterEach(async () => {
  await underlay.stop();
  vi.useRealTimers();
});

const seconds = (count: number): Promise<unknown> => vi.advanceTimersByTimeAsync(count * 1000);
const told = (now: UnderlayFacts) => ({ v: 1, kind: "underlay", facts: now });

test("what is as the state says is told to nobody", async () => {
  await seconds(600);
  links.change(facts(1500));
  await seconds(600);
  expect(asked).toEqual([]);
  expect([underlay.failure(), underlay.untold()]).toEqual([undefined, undefined]);
});

test("what changed while the agent was away, and at an event, is told once it stands still", async () => {
  links.now = facts(1400);
  await seconds(4);
  expect(asked).toEqual([told(facts(1400))]);
  expect(underlay.failure()?.message).toMatch(/MTU of 1400.*app needs 1500/);
  links.change(facts(1400, "10.77.0.0/16"));
  await seconds(3);
  // It comes in pieces.
  links.change(facts(1500, "10.77.0.0/16"));
  await seconds(6);
  expect(asked.slice(1)).toEqual([told(facts(1500, "10.77.0.0/16"))]);
  expect([underlay.failure(), underlay.untold()]).toEqual([undefined, undefined]);
});

test("a host without its address says nothing, and an MTU that none may have stays untold", async () => {
  links.change(undefined);
  await seconds(60);
  links.change(facts(600));
  await seconds(60);
  expect(asked).toEqual([]);
  expect(underlay.failure()?.message).toMatch(/MTU of 600/);
});

test("without the controller it is said what waits, once, and asked again less and less often", async () => {
  refuses = "UNREACHABLE";
  links.change(facts(1400));
  await seconds(10);
  expect(underlay.untold()?.message).toBe(
    "the cluster does not know yet that this host has an MTU of 1400, not 1500: no",
  );
  await seconds(600);
  expect(asked.length).toBeGreaterThan(5);
  expect(asked.length).toBeLessThan(20);
  expect(logged.filter((text) => text.startsWith("the controller does not know"))).toHaveLength(1);
  refuses = undefined;
  await seconds(60);
  expect(underlay.untold()).toBeUndefined();
  expect(own.underlayMtuBytes).toBe(1400);
});

test("a controller of 0.1.0 does not know the request: one line says so", async () => {
  refuses = "INVALID";
  links.change(facts(1400));
  await seconds(3600);
  expect(underlay.untold()).toEqual({
    code: "UNSUPPORTED",
    message: expect.stringMatching(/MTU of 1400, not 1500: the controller is of a version that/),
    next: expect.stringMatching(/install this version on the controller's host/),
  });
  expect(logged.filter((text) => text.startsWith("the controller does not know"))).toHaveLength(1);
  // Put right by hand there is nothing left to say.
  links.change(facts(1500));
  await seconds(60);
  expect(underlay.untold()).toBeUndefined();
});

test("an interface that changes without end makes no state without end, and is named", async () => {
  for (let minute = 0; minute < 60; minute++) {
    links.change(facts(minute % 2 === 0 ? 1400 : 1500));
    await seconds(60);
  }
  expect(asked.length).toBeLessThan(20);
  expect(underlay.untold()?.message).toMatch(/has changed too often/);
  links.change(facts(1300));
  await seconds(600);
  expect(own.underlayMtuBytes).toBe(1300);
  expect(underlay.untold()).toBeUndefined();
});

test("a table of neighbours that was full since the last look is a failure for a while, one that was before is none", async () => {
  const look = async (timesFull: number | undefined): Promise<string | undefined> => {
    links.timesFull = timesFull;
    underlay.soon();
    await seconds(60);
    return underlay.failure()?.next;
  };
  const room = expect.stringMatching(/sysctl -w net\.ipv4\.neigh\.default\.gc_thresh3=16384/);
  const said: unknown[] = [];
  for (const times of [undefined, 7, 7, 9, 9, 9, 9, 9]) said.push(await look(times));
  expect(said).toEqual([undefined, undefined, undefined, room, room, room, undefined, undefined]);
});
