import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { OwnAddress } from "../../../agent/membership/own-address.ts";
import type { Failure } from "../../../shared/errors.ts";
import { Ip } from "../../../shared/ip.ts";

const [local, other] = [Ip.parse("198.51.100.2"), Ip.parse("198.51.100.52")];
let has: boolean;
let looks: number;
let addressesChange: () => void;
let signed: Ip | undefined;
let isChangingOver: boolean;
let told: Failure[];
let own: OwnAddress;

beforeEach(() => {
  vi.useFakeTimers();
  [has, signed, told, isChangingOver, looks] = [true, local, [], false, 0];
  own = new OwnAddress({
    local,
    signed: () => signed,
    has: () => {
      looks++;
      return has;
    },
    links: { onChange: (listener) => (addressesChange = listener) },
    isChangingOver: () => isChangingOver,
    cannotRun: (failure) => told.push(failure),
  });
  own.start();
});

afterEach(() => {
  own.stop();
  vi.useRealTimers();
});

function addressIs(there: boolean): void {
  has = there;
  addressesChange();
}

/** By a state that came. */
function stateSays(address: Ip | undefined): void {
  signed = address;
  own.soon();
}

const seconds = (count: number): Promise<unknown> => vi.advanceTimersByTimeAsync(count * 1000);

test("an address that is away for a moment, as while it is leased anew, is no reason", async () => {
  for (let i = 0; i < 10; i++) {
    addressIs(false);
    await seconds(2);
    addressIs(true);
    await seconds(1);
  }
  expect(told).toEqual([]);
});

test("one that stays away is said, with what to do, until somebody heeds it", async () => {
  addressIs(false);
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
  stateSays(other);
  await seconds(3);
  expect(told[0]?.message).toMatch(/198\.51\.100\.52 for the others.*works at 198\.51\.100\.2/);
});

test("it works there until containers' packets leave from the other one, unless its own is gone", async () => {
  isChangingOver = true;
  stateSays(other);
  await seconds(60);
  expect(told).toEqual([]);
  isChangingOver = false;
  await seconds(3);
  expect(told).toMatchObject([{ code: "STALE" }]);
  isChangingOver = true;
  addressIs(false);
  await seconds(3);
  expect(told.at(-1)?.message).toMatch(/198\.51\.100\.2 is on none of its interfaces/);
});

test("a host that was removed has no address by the controller's word: that is said elsewhere", async () => {
  stateSays(undefined);
  await seconds(10);
  expect(told).toEqual([]);
});

test("while nothing changes it is not looked at", async () => {
  await seconds(600);
  expect(looks).toBe(1);
  addressesChange();
  await seconds(600);
  expect(looks).toBe(2);
});
