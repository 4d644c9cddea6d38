import { describe, expect, test } from "vitest";
import {
  BORN,
  isWorthWaiting,
  type Life,
  type LifeEvent,
  nextLife,
  whyNoMember,
} from "../../../agent/core/life.ts";
import type { Failure } from "../../../shared/errors.ts";

const failure: Failure = { code: "PORT_TAKEN", message: "the port is taken", next: "free it" };

const LIVES: Record<Life["state"], Life> = {
  "not-joined": { state: "not-joined" },
  starting: BORN,
  "cannot-run": { state: "cannot-run", failure, tries: 1 },
  member: { state: "member" },
  ending: { state: "ending", membershipIs: "forgotten" },
  withdrawn: { state: "withdrawn" },
  stopping: { state: "stopping" },
};

const EVENTS: Record<LifeEvent["kind"], LifeEvent> = {
  "no-membership": { kind: "no-membership" },
  joined: { kind: "joined" },
  started: { kind: "started" },
  "cannot-run": { kind: "cannot-run", failure },
  "try-again": { kind: "try-again" },
  end: { kind: "end", membershipIs: "forgotten" },
  ended: { kind: "ended" },
  "not-ended": { kind: "not-ended" },
  stop: { kind: "stop" },
};

/** What is not in it changes nothing. */
const TABLE: Record<
  Life["state"],
  Partial<Record<Exclude<LifeEvent["kind"], "stop">, Life["state"]>>
> = {
  "not-joined": { joined: "starting" },
  starting: {
    "no-membership": "not-joined",
    started: "member",
    "cannot-run": "cannot-run",
    end: "ending",
  },
  "cannot-run": { "try-again": "starting", end: "ending" },
  member: { "cannot-run": "cannot-run", end: "ending" },
  ending: { ended: "not-joined", "not-ended": "starting" },
  withdrawn: { end: "ending" },
  stopping: {},
};

describe("a host's life", () => {
  const all = Object.values(LIVES).flatMap((life) =>
    Object.values(EVENTS).map((event) => ({ life, event })),
  );

  test.each(all)("$life.state, then $event.kind", ({ life, event }) => {
    const wanted = event.kind === "stop" ? "stopping" : TABLE[life.state][event.kind];
    expect(nextLife(life, event).state).toBe(wanted ?? life.state);
  });

  test("each state has an exit that a command or a signal takes, and says what it is", () => {
    for (const life of Object.values(LIVES)) {
      if (life.state === "stopping") continue;
      const exits = Object.values(EVENTS).filter((event) => nextLife(life, event) !== life);
      expect(exits.length, life.state).toBeGreaterThan(1);
      if (life.state === "member") expect(whyNoMember(life)).toBeUndefined();
      else expect(whyNoMember(life)?.next, life.state).toBeTruthy();
    }
  });

  test("whoever withdrew is a member still, and can leave", () => {
    const withdrawn = nextLife({ state: "ending", membershipIs: "kept" }, { kind: "ended" });
    expect(withdrawn.state).toBe("withdrawn");
    expect(whyNoMember(withdrawn)?.next).toMatch(/restart.*leave/);
  });

  test("Docker waits for a host that comes up, not for one that never will", () => {
    let life: Life = BORN;
    const waited: boolean[] = [];
    for (let i = 0; i < 7; i++) {
      life = nextLife(life, { kind: "cannot-run", failure });
      waited.push(isWorthWaiting(life));
      expect(whyNoMember(life)).toEqual(failure);
      life = nextLife(life, { kind: "try-again" });
    }
    expect(waited).toEqual([true, true, true, true, true, false, false]);
  });

  test("a member that cannot take part any more says so to Docker at once", () => {
    const life = nextLife({ state: "member" }, { kind: "cannot-run", failure });
    expect(isWorthWaiting(life)).toBe(false);
    expect(whyNoMember(life)).toEqual(failure);
    const again = nextLife(nextLife(life, { kind: "try-again" }), { kind: "cannot-run", failure });
    expect(isWorthWaiting(again)).toBe(false);
    // Once it is one again, a start after that is a machine that comes up.
    expect(nextLife(nextLife(life, { kind: "try-again" }), { kind: "started" }).state).toBe(
      "member",
    );
  });
});
