import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { statusOf } from "../../../agent/api/status.ts";
import { EndpointId, type NetworkId } from "../../../shared/ids.ts";
import { familiesOf } from "../../../shared/documents.ts";
import { ruleMac } from "../../../shared/mac.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { createEndpoint, createNetwork, joinBody } from "../../support/plugin-bodies.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-counters-"));
let cluster: FakeCluster;
let h1: FakeHost;
let h2: FakeHost;

beforeAll(async () => {
  cluster = await fakeCluster(2, directory);
  [h1, h2] = cluster.hosts as [FakeHost, FakeHost];
});

afterAll(async () => {
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
});

const counters = async () => (await statusOf(h1.agent)).counters;

async function putOnH2(network: NetworkId, digit: string): Promise<void> {
  await expect.poll(() => h2.agent.localNetworks.find(network)).toBeDefined();
  const ips = await h2.agent.ipam.allot(
    h2.agent.localNetworks.record(network),
    AbortSignal.timeout(5000),
  );
  await h2.agent.localNetworks.enter(network);
  const id = EndpointId.parse(digit.repeat(64));
  h2.agent.localNetworks.put(network, { id, ...familiesOf(ips), mac: ruleMac(ips[0]!) });
}

test("status counts what this host said and heard, checked, parsed, and did in its kernel", async () => {
  const before = await counters();
  const pools = [{ AddressSpace: "LocalDefault", Pool: "10.7.0.0/24", Gateway: "10.7.0.1/24" }];
  await h1.call("NetworkDriver.CreateNetwork", createNetwork({ pools }));
  await h1.call("NetworkDriver.CreateEndpoint", createEndpoint("10.7.0.9/24"));
  await h1.call("NetworkDriver.Join", joinBody());
  const made = await counters();
  for (const what of ["controllerOut", "controllerOutBytes", "controllerIn", "controllerInBytes"])
    expect(made.mesh[what], what).toBeGreaterThan(before.mesh[what] ?? 0);
  expect(made.kernel["passes"]).toBeGreaterThan(0);

  const [network] = [...h1.agent.bindings.networks().values()] as [NetworkId];
  await putOnH2(network, "b");
  await expect.poll(() => h1.kernel.readNow(network).neighbours.length).toBe(1);
  for (const host of [h1, h2]) {
    await expect.poll(() => host.agent.replication.standing(network).inSync).toBe(true);
    await host.quiet();
  }
  const one = await counters();
  await putOnH2(network, "c");
  await expect.poll(() => h1.kernel.readNow(network).neighbours.length).toBe(2);
  const two = await counters();
  const more = (of: "networks" | "checked" | "mesh" | "kernel", what: string): number =>
    (two[of][what] ?? 0) - (one[of][what] ?? 0);
  // A forwarding entry and a neighbour, which nothing was dumped for.
  expect(more("kernel", "entriesWritten")).toBe(2);
  expect(more("kernel", "entriesRead") - more("kernel", "entriesCompared")).toBe(0);
  expect(more("networks", "parsed")).toBeGreaterThan(0);
  expect(more("checked", "signatures")).toBeGreaterThan(0);
  expect(more("mesh", "networkGossipInBytes")).toBeGreaterThan(0);
  expect([two.kernel["drifts"], two.names["drifts"]]).toEqual([0, 0]);
});
