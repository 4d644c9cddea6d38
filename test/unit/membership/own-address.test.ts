import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { OwnAddress } from "../../../agent/membership/own-address.ts";
import type { Failure } from "../../../shared/errors.ts";
import { Ip } from "../../../shared/ip.ts";

const [local, other] = [Ip.parse("198.51.100.2"), Ip.parse("198.51.100.52")];
let has: boolean;
let signed: Ip | undefined;
let isChangingOver: boolean;
let told: Failure[];
let own: OwnAddress;

beforeEach(() => {
  vi.useFakeTimers();
  [has, signed, told, isChangingOver] = [true, local, [], false];
  own = new OwnAddress({
    local,
    signed: () => signed,
    has: () => has,
    isChangingOver: () => isChangingOver,
    cannotRun: (failure) => told.push(failure),
  });
  own.start();
});

afterEach(() => {
  own.stop();
  vi.useRealTimers();
});

const seconds = (count: number): Promise<unknown> => vi.advanceTimersByTimeAsync(count * 1000);

test("an address that is away for a moment, as while it is leased anew, is no reason", async () => {
  for (let i = 0; i < 10; i++) {
    has = false;
    await seconds(2);
    has = true;
    await seconds(1);
  }
  expect(told).toEqual([]);
});

test("one that stays away is said, with what to do, until somebody heeds it", async () => {
  has = false;
  await seconds(3);
  expect(told).toMatchObject([
    {
      message: "this host's address 198.51.100.2 is on none of its interfaces",
      next: expect.stringContaining("overlay-ts node readdress"),
    },
  ]);
  await seconds(1);
  expect(told).toHaveLength(2);
});

test("another one by the controller's word: the agent works at the wrong one", async () => {
  signed = other;
  await seconds(3);
  expect(told[0]?.message).toMatch(/198\.51\.100\.52 for the others.*works at 198\.51\.100\.2/);
});

test("it works there until containers' packets leave from the other one, unless its own is gone", async () => {
  [signed, isChangingOver] = [other, true];
  await seconds(60);
  expect(told).toEqual([]);
  isChangingOver = false;
  await seconds(3);
  expect(told).toMatchObject([{ code: "STALE" }]);
  [isChangingOver, has] = [true, false];
  await seconds(3);
  expect(told.at(-1)?.message).toMatch(/198\.51\.100\.2 is on none of its interfaces/);
});

test("a host that was removed has no address by the controller's word: that is said elsewhere", async () => {
  signed = undefined;
  await seconds(10);
  expect(told).toEqual([]);
});
