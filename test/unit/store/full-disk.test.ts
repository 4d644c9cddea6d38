import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { statusOf } from "../../../agent/api/status.ts";
import { OverlayError } from "../../../shared/errors.ts";
import type { NetworkId } from "../../../shared/ids.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { occupy } from "../../support/occupy.ts";
import {
  createEndpoint,
  createNetwork,
  endpointBody,
  ENDPOINT,
  OTHER_ENDPOINT,
  OTHER_NETWORK,
} from "../../support/plugin-bodies.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-full-"));
let cluster: FakeCluster;
let host: FakeHost;
let other: FakeHost;
let network: NetworkId;

const pools = [{ AddressSpace: "LocalDefault", Pool: "10.7.0.0/24", Gateway: "10.7.0.1/24" }];

beforeEach(async () => {
  cluster = await fakeCluster(2, directory);
  [host, other] = cluster.hosts as [FakeHost, FakeHost];
  await host.call("NetworkDriver.CreateNetwork", createNetwork({ pools }));
  const { status } = await host.call("NetworkDriver.CreateEndpoint", createEndpoint("10.7.0.9/24"));
  expect(status).toBe(200);
  network = [...host.agent.bindings.networks().values()][0]!;
  await occupy(other, network);
  await expect.poll(told).toEqual([ENDPOINT]);
});
afterEach(() => cluster.stop());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** What the other host holds of this one's. */
function told(): string[] {
  const { tables } = other.agent.replication;
  const document = tables.documents(network).get(host.agent.identity.node);
  return (document?.endpoints ?? []).map(({ id }) => id);
}

const FULL = /disk is full \(free space on the disk/;

test("a new container is refused in words, nobody hears of it, and it comes when there is room", async () => {
  host.store.full = true;
  const refused = await host.call(
    "NetworkDriver.CreateEndpoint",
    createEndpoint("10.7.0.10/24", OTHER_ENDPOINT),
  );
  expect(refused).toMatchObject({ status: 500, body: { Err: expect.stringMatching(FULL) } });
  expect(host.agent.localNetworks.endpoints(network).map(({ id }) => id)).toEqual([ENDPOINT]);
  expect(host.agent.leases.of(network)).not.toContain("10.7.0.10");
  const { disk } = await statusOf(host.agent);
  expect(disk.failure?.message).toMatch(/disk is full/);
  host.store.full = false;
  const taken = await host.call(
    "NetworkDriver.CreateEndpoint",
    createEndpoint("10.7.0.10/24", OTHER_ENDPOINT),
  );
  expect(taken.status).toBe(200);
  await expect.poll(told).toEqual([ENDPOINT, OTHER_ENDPOINT].toSorted());
  expect((await statusOf(host.agent)).disk).toMatchObject({ owed: 0, failure: undefined });
});

test("a new network is refused, and the cluster has none of it", async () => {
  host.store.full = true;
  const others = [{ AddressSpace: "LocalDefault", Pool: "10.8.0.0/24", Gateway: "10.8.0.1/24" }];
  const refused = await host.call(
    "NetworkDriver.CreateNetwork",
    createNetwork({ id: OTHER_NETWORK, pools: others }),
  );
  expect(refused).toMatchObject({ status: 500, body: { Err: expect.stringMatching(FULL) } });
  expect((await cluster.controller.state()).networks.map(({ id }) => id)).toEqual([network]);
});

test("an end is an end, whatever the disk does: told at once, on disk when there is room", async () => {
  host.store.full = true;
  const { status } = await host.call("NetworkDriver.DeleteEndpoint", endpointBody());
  expect(status).toBe(200);
  await expect.poll(told).toEqual([]);
  expect((await statusOf(host.agent)).disk.owed).toBeGreaterThan(0);
  host.store.full = false;
  await expect.poll(() => host.agent.disk.status().owed, { timeout: 10_000 }).toBe(0);
});

test("a document on disk that its owner did not sign is lost alone, told, and comes again from a peer", async () => {
  await expect.poll(() => host.kernel.readNow(network).ports.length).toBe(1);
  const key = `document/${network}/${host.agent.identity.node}`;
  const value = host.store.get(key)!;
  value[value.length - 1]! ^= 1;
  host.store.write([{ kind: "put", key, value }]);
  const { next } = await host.restarted();
  const { losses } = next.disk.status();
  expect(losses).toMatchObject([{ what: key, why: expect.stringMatching(/did not sign/) }]);
  const heard: unknown[] = [];
  const all = { follow: false, wanted: () => true };
  for await (const event of next.events.read(all, AbortSignal.abort())) heard.push(event);
  expect(heard).toContainEqual(expect.objectContaining({ kind: "lost-from-disk", what: key }));
  await expect
    .poll(() => next.localNetworks.endpoints(network).map(({ id }) => id))
    .toEqual([ENDPOINT]);
  await next.stop();
});

test("a state on disk that the controller did not sign gives way to that of the joining", async () => {
  const { revision } = await cluster.controller.state();
  // One that is on its way would be written over what is damaged here.
  await expect.poll(() => host.agent.replication.tables.state?.revision).toBe(revision);
  const state = host.store.get("state")!;
  const at = Buffer.from(state).indexOf("jws") + 100;
  state[at] = state[at] === 0x41 ? 0x42 : 0x41;
  host.store.write([{ kind: "put", key: "state", value: state }]);
  const { next } = await host.restarted();
  expect(next.disk.status().losses).toMatchObject([{ what: "state" }]);
  await expect.poll(() => next.replication.tables.state?.revision).toBe(revision);
  await next.stop();
});

test("what is refused is an OverlayError of the store", () => {
  host.store.full = true;
  const write = (): void => host.agent.disk.put("x", {});
  expect(write).toThrow(OverlayError);
  expect(write).toThrow(expect.objectContaining({ code: "STORE" }));
});
