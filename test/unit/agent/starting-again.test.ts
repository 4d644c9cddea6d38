import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { fakeCluster, type FakeHost } from "../../support/fake-host.ts";
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
  const exposed = await host.agent.exposing.expose(network);
  expect(host.agent.hosting.endpoints(network).map(({ id }) => id)).toContain(ENDPOINT);
  await host.plugin.stop();
  const after = await host.rebooted();
  expect(after.hosting.endpoints(network)).toMatchObject([{ role: "host", ipv4: exposed.ips[0] }]);
  expect([...after.bindings.used(network)]).toEqual(exposed.ips);
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
  await expect.poll(() => next.hosting.endpoints(network).map(({ id }) => id)).toEqual([ENDPOINT]);
  await next.reconciler.settle(network);
  expect(applied.map(({ kind }) => kind)).not.toContain("retract");
  expect(applied.map(({ kind }) => kind)).not.toContain("removePort");
  expect(host.kernel.readNow(network).ports.map(({ endpoint }) => endpoint)).toEqual([ENDPOINT]);
  await next.stop();
});
