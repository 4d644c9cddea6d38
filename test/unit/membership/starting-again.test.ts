import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { Step } from "../../../agent/core/data-plane/kernel-state.ts";
import { compareVersions } from "../../../shared/documents.ts";
import type { NetworkId } from "../../../shared/ids.ts";
import { fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { occupy } from "../../support/occupy.ts";
import { createEndpoint, createNetwork, ENDPOINT, joinBody } from "../../support/plugin-bodies.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-reboot-"));

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("with the machine's next start its containers are gone and their addresses free; its own stay", async () => {
  const { hosts } = await fakeCluster(1, directory);
  const [host] = hosts as [FakeHost];
  const pools = [{ AddressSpace: "LocalDefault", Pool: "10.7.0.0/24", Gateway: "10.7.0.1/24" }];
  await host.call("NetworkDriver.CreateNetwork", createNetwork({ pools }));
  const { status } = await host.call("NetworkDriver.CreateEndpoint", createEndpoint("10.7.0.9/24"));
  expect(status).toBe(200);
  const [network] = [...host.agent.bindings.networks().values()];
  if (network === undefined) throw new Error("no network");
  const exposed = await host.agent.hostEndpoints.expose(network);
  expect(host.agent.localNetworks.endpoints(network).map(({ id }) => id)).toContain(ENDPOINT);
  await host.plugin.stop();
  const after = await host.rebooted();
  expect(after.localNetworks.endpoints(network)).toMatchObject([
    { role: "host", ipv4: exposed.ips[0] },
  ]);
  expect([...after.leases.of(network)]).toEqual(exposed.ips);
  await after.stop();
});

test("a lost database takes nothing from the containers that run, however slow the kernel is", async () => {
  const { hosts } = await fakeCluster(1, directory);
  const [host] = hosts as [FakeHost];
  const pools = [{ AddressSpace: "LocalDefault", Pool: "10.8.0.0/24", Gateway: "10.8.0.1/24" }];
  await host.call("NetworkDriver.CreateNetwork", createNetwork({ pools }));
  await host.call("NetworkDriver.CreateEndpoint", createEndpoint("10.8.0.9/24"));
  const { status } = await host.call("NetworkDriver.Join", joinBody());
  expect(status).toBe(200);
  const [network] = [...host.agent.bindings.networks().values()];
  if (network === undefined) throw new Error("no network");
  await host.plugin.stop();
  const { next, applied } = await host.diskLost();
  // The state at joining knows no network; the newest comes while the kernel is read.
  await expect
    .poll(() => next.localNetworks.endpoints(network).map(({ id }) => id))
    .toEqual([ENDPOINT]);
  await next.reconciler.settle(network);
  expect(applied.map(({ kind }) => kind)).not.toContain("retract");
  expect(applied.map(({ kind }) => kind)).not.toContain("removePort");
  expect(host.kernel.readNow(network).ports.map(({ endpoint }) => endpoint)).toEqual([ENDPOINT]);
  await next.stop();
});

/** Two hosts with a container each on one network of host 1, each in the other's kernel. */
async function pair(subnet: string): Promise<{
  host: FakeHost;
  other: FakeHost;
  network: NetworkId;
  entries: () => number[];
}> {
  const { hosts } = await fakeCluster(2, directory);
  const [host, other] = hosts as [FakeHost, FakeHost];
  const pools = [
    { AddressSpace: "LocalDefault", Pool: `${subnet}.0/24`, Gateway: `${subnet}.1/24` },
  ];
  await host.call("NetworkDriver.CreateNetwork", createNetwork({ pools }));
  await host.call("NetworkDriver.CreateEndpoint", createEndpoint(`${subnet}.9/24`));
  expect((await host.call("NetworkDriver.Join", joinBody())).status).toBe(200);
  const [network] = [...host.agent.bindings.networks().values()] as [NetworkId];
  await occupy(other, network);
  const entries = (): number[] =>
    [host, other].map(({ kernel }) => kernel.readNow(network).vxlanFdb.length);
  await expect.poll(entries).toEqual([1, 1]);
  await host.plugin.stop();
  await other.plugin.stop();
  return { host, other, network, entries };
}

const isRemoval = ({ kind }: Step): boolean =>
  ["removeFdb", "removeNeighbours", "removePort", "retract"].includes(kind);

test("a lost database takes no entry of others' while nobody can be asked who they are", async () => {
  const { host, other, network, entries } = await pair("10.9.0");
  await other.agent.stop();
  const { next, applied } = await host.diskLost();
  await expect
    .poll(() => next.localNetworks.endpoints(network).map(({ id }) => id))
    .toEqual([ENDPOINT]);
  await next.reconciler.settle(network);
  expect(applied.filter(isRemoval)).toEqual([]);
  expect(entries()).toEqual([1, 1]);
  await next.stop();
});

test("a lost database takes no entry of ours: peers are not told meanwhile that we left", async () => {
  const { host, other, network, entries } = await pair("10.11.0");
  const there: Step[] = [];
  const apply = other.kernel.applyNow.bind(other.kernel);
  other.kernel.applyNow = (id, steps) => {
    there.push(...steps);
    apply(id, steps);
  };
  const { next, applied } = await host.diskLost();
  await expect
    .poll(() => next.localNetworks.endpoints(network).map(({ id }) => id))
    .toEqual([ENDPOINT]);
  await expect
    .poll(() => next.desiredNetworks.want(network), { timeout: 10_000 })
    .toMatchObject({ kind: "present", prune: true });
  await next.reconciler.settle(network);
  await other.agent.reconciler.settle(network);
  expect([...applied, ...there].filter(isRemoval)).toEqual([]);
  expect(entries()).toEqual([1, 1]);
  await next.stop();
  await other.agent.stop();
});

test("a lost database does not make us say again what we said before: our word goes on from there", async () => {
  const { host, other, network } = await pair("10.12.0");
  const { node } = host.agent.identity;
  const held = () => other.agent.replication.tables.documents(network).get(node);
  for (const names of [["db"], ["db", "app"]])
    host.agent.localNetworks.amend(
      network,
      host.agent.localNetworks.endpoints(network).map((endpoint) => ({ ...endpoint, names })),
    );
  await expect.poll(() => held()?.version.seq).toBe(3);
  const before = held()!;
  const { next } = await host.diskLost();
  await expect
    .poll(() => compareVersions(held()!.version, before.version), { timeout: 20_000 })
    .toBeGreaterThan(0);
  await expect.poll(() => held()?.endpoints.map(({ id }) => id)).toEqual([ENDPOINT]);
  expect(next.replication.tables.documents(network).get(node)).toEqual(held());
  await next.stop();
  await other.agent.stop();
});
