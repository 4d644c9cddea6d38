import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test, vi } from "vitest";
import { claimedAddresses } from "../../../shared/documents.ts";
import type { NetworkId } from "../../../shared/ids.ts";
import { endpoint } from "../../support/cluster.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { createNetwork, OTHER_NETWORK, pool } from "../../support/plugin-bodies.ts";

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
  const { localNetworks } = host.agent;
  await localNetworks.enter(network);
  localNetworks.put(network, endpoint(1, 5));
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  localNetworks.remove(network, endpoint(1, 5).id);
  await localNetworks.enterAgain(network);
  expect(localNetworks.hosted()).toEqual([network]);
  await vi.advanceTimersByTimeAsync(LINGER_MS);
  expect(localNetworks.hosted()).toEqual([]);
});

test("a network is not left while an endpoint is on its way, however long its encryption takes", async () => {
  const { localNetworks, attachEndpoint, encryption, replication, identity } = host.agent;
  const encrypted = Promise.withResolvers<void>();
  vi.spyOn(encryption, "require").mockReturnValue(encrypted.promise);
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const wanted = { id: endpoint(1, 5).id, ips: claimedAddresses(endpoint(1, 5)) };
  const attached = attachEndpoint.attach(() => network, wanted, new AbortController().signal);
  await vi.advanceTimersByTimeAsync(2 * LINGER_MS);
  encrypted.resolve();
  await attached;
  expect(localNetworks.hosted()).toEqual([network]);
  expect(replication.tables.hosts.get(identity.node)?.hosting).toEqual([network]);
  localNetworks.remove(network, endpoint(1, 5).id);
  await vi.advanceTimersByTimeAsync(LINGER_MS);
  expect(localNetworks.hosted()).toEqual([]);
});

test("a host that is not on a network puts no endpoint there: nobody would have a path to it", () => {
  const { localNetworks } = host.agent;
  expect(() => localNetworks.put(network, endpoint(1, 5))).toThrow(/has left network/);
  expect(localNetworks.endpoints(network)).toEqual([]);
});

test("a network that could not be entered and has no container any more is not tried again", async () => {
  const { localNetworks, replication } = host.agent;
  vi.spyOn(replication, "join").mockRejectedValue(new Error("no topic"));
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  await localNetworks.start([network]);
  localNetworks.put(network, endpoint(1, 5));
  await localNetworks.enterAgain(network);
  expect(localNetworks.failures()).toMatchObject([{ network, failure: { message: "no topic" } }]);
  localNetworks.remove(network, endpoint(1, 5).id);
  await vi.advanceTimersByTimeAsync(LINGER_MS);
  expect(localNetworks.hosted()).toEqual([]);
  await vi.advanceTimersByTimeAsync(LINGER_MS);
  expect(localNetworks.failures()).toEqual([]);
});

test("who enters a network that is being entered waits for the same", async () => {
  const { localNetworks, replication } = host.agent;
  const join = vi.spyOn(replication, "join");
  await Promise.all([localNetworks.enter(network), localNetworks.enter(network)]);
  await localNetworks.enter(network);
  expect(join).toHaveBeenCalledTimes(1);
});

test("a network whose new key is not to be had keeps no other network from its key", async () => {
  const { localNetworks, bindings, controller } = host.agent;
  const pools = [pool({ Pool: "10.8.0.0/24", Gateway: "10.8.0.1/24" })];
  await host.call("NetworkDriver.CreateNetwork", createNetwork({ id: OTHER_NETWORK, pools }));
  const networks = [...bindings.networks().values()];
  for (const each of networks) await localNetworks.enter(each);
  const records = new Map(networks.map((each) => [each, localNetworks.record(each)]));
  vi.spyOn(localNetworks, "find").mockImplementation((id) => {
    const record = records.get(id);
    return record && { ...record, keyEpoch: record.keyEpoch + 1 };
  });
  const request = vi.spyOn(controller, "request").mockRejectedValue(new Error("away"));
  await localNetworks.rekey();
  expect(networks).toHaveLength(2);
  expect(request.mock.calls.map(([asked]) => asked)).toMatchObject(
    networks.map((each) => ({ kind: "networkKey", network: each })),
  );
  expect(localNetworks.failures().map(({ failure }) => failure.message)).toEqual(["away", "away"]);
});
