import { beforeEach, expect, test } from "vitest";
import { FakeKernel } from "../../fakes/fake-kernel.ts";
import type { Way } from "../../../agent/docker/sandbox-ways.ts";
import { LostInterfaces } from "../../../agent/docker/lost-interfaces.ts";
import { silentLog } from "../../../shared/ports.ts";
import { app, endpoint } from "../../support/cluster.ts";

const own = endpoint(1, 5);
let kernel: FakeKernel;
let nowMs: number;
let given: unknown[];
let there: boolean;
let refuses: boolean;
let way: Way | undefined;
let said: (string | undefined)[];
let lost: LostInterfaces;

beforeEach(() => {
  kernel = new FakeKernel();
  nowMs = 1000;
  given = [];
  there = true;
  refuses = false;
  way = undefined;
  said = [];
  lost = new LostInterfaces({
    kernel: {
      containerLink: (id) => kernel.containerLink(id),
      endsHere: () => kernel.endsHere(),
      giveBackEnd: (id, path, addresses, gateways) => {
        if (refuses) throw new Error("EBUSY");
        given.push([id, path, addresses, gateways]);
        return kernel.giveBackEnd(id);
      },
    },
    localNetworks: { endpoints: () => [own], find: () => app },
    sandboxes: { all: () => [{ endpoint: own.id, network: app.id, path: "/netns/1" }] },
    sandboxWays: { of: () => way },
    isThere: () => there,
    clock: { nowMs: () => nowMs },
    failureChanged: () => said.push(lost.failure()?.message),
    log: silentLog,
  });
  return () => lost.stop();
});

test("an interface that is where it should be is nobody's business", async () => {
  await lost.look();
  expect(await lost.differences()).toEqual([]);
  expect(given).toEqual([]);
});

test("one that is with the host is named at once, and given back when no Docker can be moving it", async () => {
  kernel.strand(own.id);
  expect(await lost.differences()).toMatchObject([
    { network: app.id, text: expect.stringContaining(`container ${own.ipv4} is not in it`) },
  ]);
  await lost.look();
  nowMs += 9_999;
  await lost.look();
  expect(given).toEqual([]);
  nowMs += 1;
  await lost.look();
  expect(given).toEqual([[own.id, "/netns/1", [{ ip: own.ipv4, prefixLength: 16 }], []]]);
  expect(await lost.differences()).toEqual([]);
});

test("status names it from when it is sure until it has it again, and why it cannot have it", async () => {
  kernel.strand(own.id);
  await lost.look();
  expect(lost.failure()).toBeUndefined();
  nowMs += 5000;
  await lost.look();
  expect(lost.failure()).toMatchObject({
    message: `no interface is in the containers that have ${own.ipv4}`,
    next: "it is given back in some seconds",
  });
  refuses = true;
  for (let round = 0; round < 3; round++) {
    nowMs += 5000;
    await lost.look();
  }
  expect(lost.failure()?.message).toMatch(/and none can be given back: EBUSY$/);
  expect(lost.failure()?.next).toMatch(/docker restart/);
  refuses = false;
  await lost.look();
  expect(lost.failure()).toBeUndefined();
  // Told once each, however often it was tried.
  expect(said).toHaveLength(3);
});

test("a container that ended is named no more", async () => {
  kernel.strand(own.id);
  await lost.look();
  nowMs += 5000;
  await lost.look();
  there = false;
  await lost.look();
  expect(lost.failure()).toBeUndefined();
});

test("away twice for a moment is not away for long", async () => {
  kernel.strand(own.id);
  await lost.look();
  await kernel.giveBackEnd(own.id);
  nowMs += 20_000;
  await lost.look();
  kernel.strand(own.id);
  await lost.look();
  expect(given).toEqual([]);
});

test("of a container that has ended nothing is said", async () => {
  kernel.strand(own.id);
  there = false;
  expect(await lost.differences()).toEqual([]);
});
