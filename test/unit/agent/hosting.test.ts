import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test, vi } from "vitest";
import type { NetworkId } from "../../../shared/ids.ts";
import { endpoint } from "../../support/cluster.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { createNetwork } from "../../support/plugin-bodies.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-hosting-"));
const LINGER_MS = 10_000;
let cluster: FakeCluster;
let host: FakeHost;
let network: NetworkId;

beforeEach(async () => {
  cluster = await fakeCluster(1, directory);
  [host] = cluster.hosts as [FakeHost];
  await host.call("NetworkDriver.CreateNetwork", createNetwork());
  [network] = [...host.agent.bindings.networks().values()] as [NetworkId];
});

afterEach(() => {
  vi.useRealTimers();
  return cluster.stop();
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("a network that is entered again when its last container has gone is left all the same", async () => {
  const { hosting } = host.agent;
  await hosting.enter(network);
  hosting.put(network, endpoint(1, 5));
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  hosting.remove(network, endpoint(1, 5).id);
  await hosting.enterAgain(network);
  expect(hosting.hosted()).toEqual([network]);
  await vi.advanceTimersByTimeAsync(LINGER_MS);
  expect(hosting.hosted()).toEqual([]);
});
