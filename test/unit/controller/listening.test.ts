import { beforeEach, expect, test } from "vitest";
import { Listening } from "../../../controller/listening.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { Ip } from "../../../shared/ip.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";

const [first, second] = [Ip.parse("198.51.100.1"), Ip.parse("198.51.100.51")];
let at: Ip;
let there: Set<Ip>;
let done: string[];
let taken: boolean;
let listening: Listening;

beforeEach(() => {
  [at, there, done, taken] = [first, new Set([first]), [], false];
  listening = new Listening({
    state: async () =>
      clusterState(1, { controller: { node: nodeId(1), peerId: nodeId(9), address: at } }),
    make: (address, port) => ({
      start: async () => {
        if (taken) throw new OverlayError({ code: "PORT_TAKEN", message: "taken" });
        done.push(`start ${address}:${port}`);
      },
      stop: async () => void done.push(`stop ${address}`),
    }),
    has: (ip) => there.has(ip),
  });
});

test("it listens where the state says, once, and goes where it says then", async () => {
  await Promise.all([listening.follow(), listening.follow()]);
  expect(done).toEqual(["start 198.51.100.1:7952"]);
  [at, there] = [second, new Set([first, second])];
  await listening.follow();
  await listening.stop();
  expect(done.slice(1)).toEqual([
    "stop 198.51.100.1",
    "start 198.51.100.51:7952",
    "stop 198.51.100.51",
  ]);
});

test("without that address it waits for it, or for another, and says why nobody reaches it", async () => {
  there = new Set();
  await listening.follow();
  expect(done).toEqual([]);
  expect(listening.failure()).toMatchObject({
    message: expect.stringContaining("198.51.100.1 is on none of this host's interfaces"),
    next: expect.stringContaining("overlay-ts node readdress"),
  });
  there = new Set([first]);
  await listening.follow();
  expect(listening.failure()).toBeUndefined();
  expect(done).toEqual(["start 198.51.100.1:7952"]);
});

test("a socket whose address went is kept: it hears again when that comes back", async () => {
  await listening.follow();
  there = new Set();
  await listening.follow();
  expect(listening.failure()).toBeDefined();
  there = new Set([first]);
  await listening.follow();
  expect(done).toEqual(["start 198.51.100.1:7952"]);
});

test("a port that is taken is said to the caller, and tried with the next call", async () => {
  taken = true;
  await expect(listening.follow()).rejects.toMatchObject({ code: "PORT_TAKEN" });
  taken = false;
  await listening.follow();
  expect(done).toEqual(["start 198.51.100.1:7952"]);
});
