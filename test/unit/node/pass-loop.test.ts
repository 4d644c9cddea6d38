import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Passed, PassLoop } from "../../../shared/node/pass-loop.ts";

const TIMES = { coalesceMs: 10, retryFirstMs: 100, retryMostMs: 350 };
let startMs = 0;

beforeEach(() => {
  vi.useFakeTimers();
  startMs = performance.now();
});
afterEach(() => void vi.useRealTimers());

/** When passes began, in milliseconds since the start of the test; `pass` is one's outcome, or its end. */
function record(pass: (nth: number) => Promise<Passed | void> | void) {
  const atMs: number[] = [];
  const told: (string | undefined)[] = [];
  const loop = new PassLoop(
    async () => {
      atMs.push(performance.now() - startMs);
      return pass(atMs.length);
    },
    (failure) => told.push(failure?.message),
    TIMES,
  );
  return { loop, atMs, told };
}

const advance = (ms: number) => vi.advanceTimersByTimeAsync(ms);

function failing(until = Infinity) {
  return record((nth) => {
    if (nth < until) throw new Error("not yet");
  });
}

test("the first event is a pass at once, what follows shares the next, and then nothing happens", async () => {
  const { loop, atMs } = record(() => {});
  for (let i = 0; i < 100; i++) loop.dirty();
  await advance(1000);
  expect(atMs).toEqual([0, 10]);
  loop.dirty();
  await advance(1000);
  expect(atMs).toEqual([0, 10, 1000]);
});

test("a pass that fails is tried again, later and later up to a bound, from the start after a success", async () => {
  const { loop, atMs, told } = failing(6);
  loop.dirty();
  await advance(2000);
  expect(atMs).toEqual([0, 100, 300, 650, 1000, 1350]);
  expect(told).toEqual(["not yet", undefined]);
  const again = failing();
  again.loop.dirty();
  await advance(100);
  expect(again.atMs).toEqual([2000, 2100]);
  await again.loop.stop();
});

test.each<[string, (loop: PassLoop) => unknown, number[]]>([
  ["more events", (loop) => loop.dirty(), [0, 100]],
  ["what may have mended it", (loop) => loop.hurry(), [0, 50]],
  ["who waits for a pass", (loop) => loop.done().catch(() => {}), [0, 50]],
])("the wait after a failure: %s", async (_who, event, passes) => {
  const { loop, atMs } = failing();
  loop.dirty();
  await advance(50);
  event(loop);
  await advance(50);
  expect(atMs).toEqual(passes);
  await loop.stop();
});

test.each<[string, (loop: PassLoop) => unknown, number[]]>([
  ["what may have mended it", (loop) => loop.hurry(), [0, 10]],
  ["who waits for a pass", (loop) => loop.done(), [0, 5]],
])("the wait for more events: %s", async (_who, event, passes) => {
  const { loop, atMs } = record(() => {});
  loop.dirty();
  await advance(5);
  event(loop);
  await advance(100);
  expect(atMs).toEqual(passes);
});

test("a hurry that comes during a pass that fails is not lost", async () => {
  const { loop, atMs } = record((nth): void => {
    if (nth === 1) loop.hurry();
    throw new Error("not yet");
  });
  loop.dirty();
  await advance(1);
  expect(atMs).toEqual([0, 0]);
  await loop.stop();
});

test("a pass that names a time is due again then, or at the next event; what it left is told", async () => {
  const failure = { code: "DOCKER", message: "one network was refused" } as const;
  const { loop, atMs, told } = record(() => Promise.resolve({ failure, againInMs: 1000 }));
  loop.dirty();
  await advance(1500);
  expect(atMs).toEqual([0, 1010]);
  loop.dirty();
  await advance(0);
  expect(atMs).toEqual([0, 1010, 1500]);
  expect(told).toEqual([failure.message]);
  await loop.stop();
  await advance(10_000);
  expect(atMs).toHaveLength(3);
});

test("who waits is told of the pass that has what it waits for, also when something always comes", async () => {
  const ends: (() => void)[] = [];
  const { loop, atMs } = record(() => {
    loop.dirty();
    return new Promise<void>((resolve) => ends.push(resolve));
  });
  loop.dirty();
  const heard: string[] = [];
  void loop.done().then(() => heard.push("done"));
  void loop.tried().then(() => heard.push("tried"));
  await advance(20);
  ends[0]!();
  await advance(20);
  expect([atMs.length, heard]).toEqual([2, []]);
  ends[1]!();
  await advance(0);
  expect(heard.toSorted()).toEqual(["done", "tried"]);
  const stopped = loop.stop();
  ends[2]?.();
  await stopped;
});

test("a failure is told to who waits for one pass, and not to who waits for it to be over", async () => {
  const { loop } = failing(3);
  loop.dirty();
  expect((await loop.tried())?.message).toBe("not yet");
  const settled = loop.settled();
  await expect(loop.done()).rejects.toThrow("not yet");
  await advance(1000);
  await settled;
  expect(loop.failure()).toBeUndefined();
});

test("nobody waits for ever: a stop ends waits, and what was not tried is a failure", async () => {
  const { loop, atMs } = failing();
  expect(await loop.tried()).toBeUndefined();
  loop.dirty();
  const settled = loop.settled();
  await loop.tried();
  const tried = loop.tried();
  await loop.stop();
  await settled;
  expect(await tried).toMatchObject({ code: "INTERNAL", message: "the agent is stopping" });
  await expect(loop.done()).rejects.toThrow("the agent is stopping");
  loop.dirty();
  await advance(10_000);
  expect(atMs).toEqual([0]);
});

test("a pass that does not end is told by since when", async () => {
  const end = Promise.withResolvers<void>();
  const { loop } = record(() => end.promise);
  expect(loop.passSinceMs()).toBeUndefined();
  loop.dirty();
  await advance(30);
  expect(loop.passSinceMs()).toBe(startMs);
  end.resolve();
  await advance(0);
  expect(loop.passSinceMs()).toBeUndefined();
});
