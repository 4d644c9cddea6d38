import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { RevocationCheck } from "../../../agent/membership/revocation-check.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { silentLog } from "../../../shared/ports.ts";

let misses: boolean;
let revoked: boolean;
let answer: "member" | "UNAUTHENTICATED" | "UNREACHABLE" | "STALE";
let asked: number;
let changes: number;
let still: RevocationCheck;

beforeEach(() => {
  vi.useFakeTimers();
  [misses, revoked, answer, asked, changes] = [false, false, "member", 0, 0];
  still = new RevocationCheck({
    misses: () => misses,
    revoked: () => revoked,
    ask: async () => {
      asked++;
      if (answer !== "member") throw new OverlayError({ code: answer, message: "no" });
    },
    changed: () => changes++,
    log: silentLog,
  });
  still.start();
});

afterEach(async () => {
  await still.stop();
  vi.useRealTimers();
});

const seconds = (count: number): Promise<unknown> => vi.advanceTimersByTimeAsync(count * 1000);

test("nobody is asked while all peers are connected, or one is away for a moment", async () => {
  await seconds(3600);
  misses = true;
  await seconds(5);
  misses = false;
  await seconds(60);
  expect(asked).toBe(0);
});

test("while one is missed the controller is asked, once a minute, and a host that is down proves nothing", async () => {
  misses = true;
  await seconds(10);
  expect(asked).toBe(1);
  await seconds(600);
  expect(asked).toBeGreaterThanOrEqual(10);
  expect(asked).toBeLessThanOrEqual(11);
  expect(still.failure()).toBeUndefined();
  expect(changes).toBe(0);
});

test("a host that the controller does not know any more says so, and what to do", async () => {
  misses = true;
  answer = "UNAUTHENTICATED";
  await seconds(10);
  expect(still.failure()).toMatchObject({
    message: expect.stringMatching(/was removed from the cluster/),
    next: expect.stringMatching(/overlay-ts leave --force.*join.*token create/),
  });
  expect(changes).toBe(1);
  // What was said by who could know holds while nobody can.
  answer = "UNREACHABLE";
  await seconds(120);
  expect(still.failure()).toBeDefined();
  answer = "member";
  await seconds(60);
  expect(still.failure()).toBeUndefined();
  expect(changes).toBe(2);
});

test.each(["UNREACHABLE", "STALE"] as const)(
  "a controller that answers %s says nothing about this host",
  async (code) => {
    misses = true;
    answer = code;
    await seconds(600);
    expect(still.failure()).toBeUndefined();
  },
);

test("the state that revokes it needs nobody else's word", () => {
  revoked = true;
  expect(still.failure()).toBeDefined();
});
