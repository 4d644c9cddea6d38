import { describe, expect, test } from "vitest";
import {
  DEFAULT_PRESENCE_OPTIONS,
  Presence,
} from "../../../agent/core/liveness/failure-detector.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { nodeId } from "../../support/cluster.ts";

const { nearPeriodMs, farPeriodMs, timeoutMs, missesToLose } = DEFAULT_PRESENCE_OPTIONS;
const [near, far] = [nodeId(2), nodeId(3)];

/** Time goes by: whoever is due is asked, answers at once, or is heard to be silent when its time is over. */
class Course {
  readonly presence = new Presence();
  readonly asked: { node: NodeId; atMs: number }[] = [];
  readonly #pending: { node: NodeId; atMs: number }[] = [];
  #nowMs = 0;

  constructor(peers: readonly NodeId[]) {
    this.presence.set(peers, new Set([near]), 0);
  }

  until(untilMs: number, answers: boolean): void {
    for (; this.#nowMs <= untilMs; this.#nowMs++) {
      const now = this.#nowMs;
      for (const { node, atMs } of this.#pending)
        if (atMs === now) this.presence.heard(node, false, now);
      for (const node of this.presence.due(now)) {
        this.asked.push({ node, atMs: now });
        if (answers) this.presence.heard(node, true, now);
        else this.#pending.push({ node, atMs: now + timeoutMs });
      }
    }
  }
}

function of(peers: readonly NodeId[]): Presence {
  return new Course(peers).presence;
}

describe("which hosts are reached", () => {
  test("all are asked at once, then those who share a network more often than the others", () => {
    const course = new Course([near, far]);
    course.until(farPeriodMs * 2 - 1, true);
    const count = (node: NodeId): number => course.asked.filter((one) => one.node === node).length;
    expect(course.asked.slice(0, 2).map(({ atMs }) => atMs)).toEqual([0, 0]);
    expect(count(far)).toBe(2);
    expect(count(near)).toBe(Math.ceil((farPeriodMs * 2) / nearPeriodMs));
  });

  test("one that does not answer is lost after its misses in a row, and found with its first answer", () => {
    const course = new Course([near]);
    course.until(0, true);
    const lostMs = nearPeriodMs + missesToLose * timeoutMs;
    course.until(lostMs - 1, false);
    expect(course.presence.lost()).toEqual(new Set());
    course.until(lostMs, false);
    expect(course.presence.lost()).toEqual(new Set([near]));
    course.until(lostMs + nearPeriodMs, true);
    expect(course.presence.lost()).toEqual(new Set());
  });

  test("a dead host is known as lost after 1.2 to 2.2 s, whenever it dies: the promise, not the options", () => {
    const took = [0, 1, 250, 500, 999, 1000].map((diedMs) => {
      const course = new Course([near]);
      course.until(diedMs, true);
      let nowMs = diedMs;
      while (!course.presence.lost().has(near) && nowMs < 60_000) course.until(++nowMs, false);
      return nowMs - diedMs;
    });
    expect(Math.max(...took)).toBeLessThanOrEqual(2200);
    expect(Math.min(...took)).toBeGreaterThanOrEqual(1200);
  });

  test("a single answer between starts the count anew", () => {
    const presence = of([near]);
    for (let k = 1; k < missesToLose; k++) presence.heard(near, false, k);
    presence.heard(near, true, 10);
    for (let k = 1; k < missesToLose; k++) expect(presence.heard(near, false, 10 + k)).toBe(false);
    expect(presence.heard(near, false, 20)).toBe(true);
  });

  test("one that never answered has its time for the first answer, and one that did has none", () => {
    const firstAnswerMs = 15_000;
    const silent = (answersAtMs?: number): number => {
      const presence = new Presence({ ...DEFAULT_PRESENCE_OPTIONS, firstAnswerMs });
      presence.set([near], new Set([near]), 0);
      for (let nowMs = 0; ; nowMs += 500)
        if (nowMs === answersAtMs) presence.heard(near, true, nowMs);
        else if (presence.heard(near, false, nowMs)) return nowMs;
    };
    expect(silent()).toBe(firstAnswerMs + (missesToLose - 1) * 500);
    expect(silent(1000)).toBe(1000 + missesToLose * 500);
  });

  test("who answered the last question is answering", () => {
    const presence = of([near, far]);
    presence.heard(near, true, 1);
    presence.heard(far, true, 1);
    presence.heard(far, false, 2);
    expect(presence.answering()).toEqual(new Set([near]));
    expect(presence.lost()).toEqual(new Set());
  });

  test("in doubt it is asked at once", () => {
    const presence = of([near]);
    presence.due(0);
    expect(presence.due(1)).toEqual([]);
    presence.doubt(near, 1);
    expect(presence.nextMs()).toBe(1);
    expect(presence.due(1)).toEqual([near]);
  });

  test("one that begins to share a network is asked at once; one that left is forgotten", () => {
    const presence = of([near, far]);
    presence.due(0);
    presence.set([near, far], new Set([near, far]), 10);
    expect(presence.due(10)).toEqual([far]);
    for (let k = 0; k < missesToLose; k++) presence.heard(far, false, 11 + k);
    presence.set([near], new Set([near]), 20);
    expect(presence.lost()).toEqual(new Set());
    expect(presence.heard(far, false, 21)).toBe(false);
  });

  test("with very many the probes of a second are bounded", () => {
    const presence = new Presence({ ...DEFAULT_PRESENCE_OPTIONS, maxProbesPerSecond: 10 });
    const peers = Array.from({ length: 40 }, (_, k) => nodeId(k + 2));
    presence.set(peers, new Set(peers), 0);
    let asked = 0;
    for (let now = 0; now < 8000; now++) asked += presence.due(now).length;
    expect(asked).toBe(80);
  });

  test("hosts that came one after another are asked together: a wake-up for each would be fifty a second", () => {
    const presence = new Presence();
    const peers = Array.from({ length: 50 }, (_, k) => nodeId(k + 2));
    const last = new Map<NodeId, number>();
    let [rounds, asked] = [0, 0];
    for (let now = 0; now < 60_000; now++) {
      if (now % 71 === 0 && now < 50 * 71) {
        const known = peers.slice(0, now / 71 + 1);
        presence.set(known, new Set(known), now);
      }
      const due = presence.due(now);
      if (due.length > 0 && now >= 10_000) rounds++;
      for (const node of due) {
        if (now >= 10_000) asked++;
        expect(now - (last.get(node) ?? now)).toBeLessThanOrEqual(nearPeriodMs);
        last.set(node, now);
        presence.heard(node, true, now);
      }
    }
    expect(asked).toBe(50 * 50);
    expect(rounds).toBeLessThan(50 * 8);
  });

  test("while an answer is awaited a host is not asked along with others", () => {
    const presence = of([near, far]);
    presence.set([near, far], new Set([near, far]), 0);
    presence.due(0);
    presence.heard(near, true, 1);
    presence.doubt(near, nearPeriodMs - 100);
    expect(presence.due(nearPeriodMs - 100)).toEqual([near]);
    presence.heard(far, true, nearPeriodMs - 90);
    presence.heard(near, true, nearPeriodMs - 90);
    presence.doubt(near, nearPeriodMs - 80);
    expect(presence.due(nearPeriodMs - 80)).toEqual([near, far]);
  });
});
