import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { socketAddress } from "../../shared/node/notify-socket.ts";
import { readSupervision } from "../../shared/node/supervision.ts";
import { supervisor } from "../../shared/node/supervisor.ts";
import { startWatchdog } from "../../shared/node/watchdog.ts";
import { type Owed, overdue } from "../../shared/overdue.ts";
import { silentLog } from "../../shared/ports.ts";

describe("what systemd says in the environment", () => {
  const read = (environment: Record<string, string>) => readSupervision(environment, 42);

  test("nothing, when somebody else started it", () => {
    expect(read({})).toEqual({
      notifySocket: undefined,
      watchdogMs: undefined,
      descriptors: [],
    });
  });

  test.each([
    [
      "names stand beside numbers",
      { LISTEN_FDS: "2", LISTEN_FDNAMES: "plugin:api" },
      "3 plugin 4 api",
    ],
    [
      "a name twice",
      { LISTEN_FDS: "3", LISTEN_FDNAMES: "plugin:kept:kept" },
      "3 plugin 4 kept 5 kept",
    ],
    ["without names", { LISTEN_FDS: "1" }, "3 unknown"],
    ["none", { LISTEN_FDS: "0" }, ""],
  ])("descriptors: %s", (_, environment, expected) => {
    const { descriptors } = read({ LISTEN_PID: "42", ...environment });
    expect(descriptors.map(({ fd, name }) => `${fd} ${name}`).join(" ")).toBe(expected);
  });

  test("sockets of socket units are not taken for what was kept, and none of a name is lost", () => {
    const { listening, descriptors } = supervisor(
      read({ LISTEN_PID: "42", LISTEN_FDS: "4", LISTEN_FDNAMES: "plugin:plugin:a-u:stored" }),
      ["plugin"],
    );
    expect(listening("plugin")).toEqual([3, 4]);
    expect(listening("a-u")).toEqual([]);
    expect([...descriptors.kept]).toEqual([
      ["a-u", 5],
      ["stored", 6],
    ]);
    expect(descriptors.keeps).toBe(false);
    expect(descriptors.keep("b-u", 7)).toBe(false);
  });

  test("what is meant for a process before us is not for us", () => {
    const inherited = { LISTEN_PID: "41", LISTEN_FDS: "1", WATCHDOG_PID: "41", WATCHDOG_USEC: "9" };
    expect(read(inherited)).toMatchObject({ watchdogMs: undefined, descriptors: [] });
  });

  test("the watchdog's time is in milliseconds", () => {
    expect(read({ WATCHDOG_USEC: "30000000" }).watchdogMs).toBe(30_000);
    expect(read({ WATCHDOG_PID: "42", WATCHDOG_USEC: "1500000" }).watchdogMs).toBe(1500);
  });
});

test.each([
  ["/run/systemd/notify", "\x01\x00/run/systemd/notify\x00"],
  ["@/org/systemd", "\x01\x00\x00/org/systemd"],
])("the address %s as the kernel reads it", (address, bytes) => {
  expect(socketAddress(address).toString("latin1")).toBe(bytes);
});

test.each<[string, Owed, string[]]>([
  ["nobody owes anything", {}, []],
  ["idle parts owe nothing", { mesh: undefined, reconciler: undefined }, []],
  ["at work, within the time", { mesh: 71, reconciler: 99 }, []],
  ["one too long", { mesh: 69, reconciler: undefined }, ["mesh"]],
  ["both", { reconciler: 0, mesh: 69 }, ["mesh", "reconciler"]],
])("overdue: %s", (_, owed, expected) => {
  expect(overdue(owed, 100, 30)).toEqual(expected);
});

describe("the watchdog", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test("is fed while every part makes progress, and again after one that stalled does", () => {
    let fed = 0;
    let since: number | undefined;
    const end = startWatchdog({
      supervisor: { watchdogMs: 30, alive: () => fed++ },
      clock: { nowMs: () => performance.now() },
      owed: () => ({ mesh: since }),
      log: silentLog,
    });
    expect(fed).toBe(1);
    vi.advanceTimersByTime(60);
    expect(fed).toBe(7);
    since = performance.now();
    vi.advanceTimersByTime(300);
    expect(fed).toBe(10);
    since = undefined;
    vi.advanceTimersByTime(10);
    expect(fed).toBe(11);
    end();
    vi.advanceTimersByTime(100);
    expect(fed).toBe(11);
  });

  test("nobody asks: nothing is said", () => {
    const alive = vi.fn();
    startWatchdog({
      supervisor: { watchdogMs: undefined, alive },
      clock: { nowMs: () => 0 },
      owed: () => ({}),
      log: silentLog,
    });
    vi.advanceTimersByTime(100_000);
    expect(alive).not.toHaveBeenCalled();
  });
});
