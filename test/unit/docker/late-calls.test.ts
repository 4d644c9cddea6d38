import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { always, delegateIpam, delegateNetwork } from "../../../agent/docker/plugin/delegate.ts";
import { PluginServer } from "../../../agent/docker/plugin/server.ts";
import type { NetworkDriver } from "../../../agent/docker/plugin/port.ts";
import type { IpamDriver } from "../../../agent/networks/ipam-port.ts";
import { silentLog } from "../../../shared/ports.ts";
import { failOnCrashes } from "../../support/crashes.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import {
  countsOf,
  createEndpoint,
  createNetwork,
  done,
  ENDPOINT,
  endpointBody,
  joinBody,
  makeNetwork,
  NETWORK,
  SUBNET,
  until,
} from "../../support/plugin-bodies.ts";
import { callPlugin, sendRaw } from "../../support/plugin-client.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-late-"));
let cluster: FakeCluster;
let host: FakeHost;
/** The same agent's, for calls that must not be done in time. */
let impatient: PluginServer;
let deadlineMs: number;
const socket = join(directory, "impatient.sock");

beforeEach(async () => {
  cluster = await fakeCluster(1, directory);
  [host] = cluster.hosts as [FakeHost];
  deadlineMs = 50;
  const { driver, ipam } = host.agent;
  impatient = new PluginServer(socket, {
    network: driver,
    ipam,
    log: silentLog,
    timeoutMs: () => deadlineMs,
  });
  await impatient.start();
});

afterEach(async () => {
  await impatient.stop();
  await cluster.stop();
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** The controller answers only after Docker was told that the call failed. */
async function tooLate(name: string, body: object): Promise<void> {
  const release = host.control.hold();
  const { status, body: answer } = await callPlugin(socket, name, body);
  expect({ status, answer }).toEqual({
    status: 500,
    answer: { Err: answer["Err"], Error: answer["Err"] },
  });
  expect(answer["Err"]).toMatch(/did not finish .* in 0\.05 s \(see `overlay-ts status`/);
  const late = (): number | undefined => impatient.counts().calls[name]?.late;
  expect(late()).toBe(0);
  release();
  await until(() => late() === 1);
  await host.quiet();
}

const POOL = { AddressSpace: "overlay-ts", Pool: SUBNET, SubPool: "", Options: {}, V6: false };

describe("a call that ends after its deadline", () => {
  test("CreateNetwork: the cluster has no network of it, and Docker may ask again", async () => {
    const { PoolID } = await done(host, "IpamDriver.RequestPool", POOL);
    await tooLate("NetworkDriver.CreateNetwork", createNetwork());
    expect((await cluster.controller.state()).networks).toEqual([]);
    expect(host.agent.bindings.networks().size).toBe(0);
    expect(host.agent.ipam.pools.get(PoolID as string)?.network).toBeUndefined();
    await done(host, "NetworkDriver.CreateNetwork", createNetwork());
    expect((await cluster.controller.state()).networks).toHaveLength(1);
  });

  test("CreateEndpoint: no endpoint, and the network is not entered for nothing", async () => {
    await makeNetwork(host);
    const network = networkId();
    // An address that the controller must grant first.
    const body = createEndpoint("10.7.0.9/24");
    await tooLate("NetworkDriver.CreateEndpoint", body);
    expect(host.agent.localNetworks.endpoints(network)).toEqual([]);
    expect(host.agent.localNetworks.hosted()).toEqual([]);
    expect(await granted()).toEqual([]);
    await done(host, "NetworkDriver.CreateEndpoint", body);
    expect(host.agent.localNetworks.endpoints(network).map(({ id }) => id)).toEqual([ENDPOINT]);
  });

  test("CreateEndpoint that waits for the mesh: no endpoint, and the network lingers", async () => {
    await makeNetwork(host);
    const { localNetworks, replication } = host.agent;
    const entering = Promise.withResolvers<void>();
    // It has to come so far.
    deadlineMs = 1000;
    const join = vi.spyOn(replication, "join").mockReturnValue(entering.promise);
    const name = "NetworkDriver.CreateEndpoint";
    const { status } = await callPlugin(socket, name, createEndpoint("10.7.0.9/24"));
    expect(status).toBe(500);
    entering.resolve();
    await until(() => impatient.counts().calls[name]?.late === 1);
    expect(localNetworks.endpoints(networkId())).toEqual([]);
    expect(join).toHaveBeenCalledOnce();
    expect(localNetworks.hosted()).toEqual([networkId()]);
  });

  test("CreateNetwork, asked again meanwhile: what the second got is not taken back", async () => {
    const release = host.control.hold();
    const first = await callPlugin(socket, "NetworkDriver.CreateNetwork", createNetwork());
    expect(first.status).toBe(500);
    const second = host.call("NetworkDriver.CreateNetwork", createNetwork());
    await until(() => countsOf(host, "NetworkDriver.CreateNetwork").decoded === 1);
    release();
    expect((await second).status).toBe(200);
    await host.quiet();
    const networks = (await cluster.controller.state()).networks.map(({ id }) => id);
    expect(networks).toEqual([networkId()]);
  });

  test("CreateEndpoint, asked again meanwhile: the second's address is this host's", async () => {
    await makeNetwork(host);
    const release = host.control.hold();
    const name = "NetworkDriver.CreateEndpoint";
    const body = createEndpoint("10.7.0.9/24");
    expect((await callPlugin(socket, name, body)).status).toBe(500);
    const second = host.call(name, body);
    await until(() => countsOf(host, name).decoded === 1);
    release();
    expect((await second).status).toBe(200);
    await host.quiet();
    expect(await granted()).toEqual(["10.7.0.9/32"]);
  });

  test("RequestAddress, by name or not: the address stays free", async () => {
    const PoolID = await makeNetwork(host);
    await host.quiet();
    await tooLate("IpamDriver.RequestAddress", { PoolID, Address: "10.7.0.9", Options: null });
    expect([...host.agent.leases.of(networkId())]).toEqual([]);
    expect(await granted()).toEqual([]);
    await done(host, "IpamDriver.RequestAddress", { PoolID, Address: "10.7.0.9", Options: null });
  });

  test("RequestAddress that waits for a block", async () => {
    const PoolID = await makeNetwork(host);
    await tooLate("IpamDriver.RequestAddress", { PoolID, Address: "", Options: null });
    expect([...host.agent.leases.of(networkId())]).toEqual([]);
  });

  test("DeleteNetwork waits for nobody: what becomes of the network is decided after it", async () => {
    await makeNetwork(host);
    const release = host.control.hold();
    const { status } = await host.call("NetworkDriver.DeleteNetwork", { NetworkID: NETWORK });
    expect(status).toBe(200);
    expect(host.agent.bindings.networks().size).toBe(0);
    expect((await cluster.controller.state()).networks).toHaveLength(1);
    release();
    await host.quiet();
    expect((await cluster.controller.state()).networks).toEqual([]);
  });

  test("a body that never comes is not waited for", async () => {
    const half = "POST /NetworkDriver.Leave HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    const answer = await sendRaw(socket, Buffer.from(half), Buffer.alloc(0));
    expect(answer).toMatch(/^HTTP\/1\.1 500 /);
    expect(answer).toMatch(/did not finish NetworkDriver\.Leave/);
  });

  test("Docker that hangs up is as a deadline", async () => {
    await makeNetwork(host);
    const { driver, ipam } = host.agent;
    const path = join(directory, "patient.sock");
    const patient = new PluginServer(path, {
      network: driver,
      ipam,
      log: silentLog,
      timeoutMs: () => 3_600_000,
    });
    await patient.start();
    const name = "NetworkDriver.CreateEndpoint";
    const counts = () => patient.counts().calls[name];
    const release = host.control.hold();
    const asked = request({ socketPath: path, method: "POST", path: `/${name}` });
    asked.on("error", () => {});
    asked.end(JSON.stringify(createEndpoint("10.7.0.9/24")));
    await until(() => counts()?.decoded === 1);
    asked.destroy();
    await until(() => counts()?.refused === 1);
    release();
    await until(() => counts()?.late === 1);
    expect(host.agent.localNetworks.endpoints(networkId())).toEqual([]);
    await patient.stop();
  });
});

test("what a starting agent was asked too long ago it does not begin; what was given up, it does", async () => {
  const carriedOut: string[] = [];
  const note = (what: string) => async (): Promise<never> => void carriedOut.push(what) as never;
  const network: NetworkDriver = {
    createNetwork: note("createNetwork"),
    deleteNetwork: note("deleteNetwork"),
    createEndpoint: note("createEndpoint"),
    deleteEndpoint: note("deleteEndpoint"),
    join: note("join"),
    leave: note("leave"),
  };
  const ipam: IpamDriver = {
    requestPool: note("requestPool"),
    releasePool: note("releasePool"),
    requestAddress: note("requestAddress"),
    releaseAddress: note("releaseAddress"),
  };
  const starting = Promise.withResolvers<void>();
  const path = join(directory, "starting.sock");
  const modules = {
    network: delegateNetwork(always(() => starting.promise.then(() => network))),
    ipam: delegateIpam(always(() => starting.promise.then(() => ipam))),
    log: silentLog,
  };
  const server = new PluginServer(path, { ...modules, timeoutMs: () => 20 });
  await server.start();
  const PoolID = "p-1 10.7.0.0/24";
  const calls: [string, object][] = [
    ["IpamDriver.RequestPool", POOL],
    ["IpamDriver.RequestAddress", { PoolID, Address: "", Options: null }],
    ["NetworkDriver.CreateNetwork", createNetwork()],
    ["NetworkDriver.CreateEndpoint", createEndpoint("10.7.0.9/24")],
    ["NetworkDriver.Join", joinBody()],
    ["NetworkDriver.Leave", endpointBody()],
    ["NetworkDriver.DeleteEndpoint", endpointBody()],
    ["NetworkDriver.DeleteNetwork", { NetworkID: NETWORK }],
    ["IpamDriver.ReleaseAddress", { PoolID, Address: "10.7.0.9" }],
    ["IpamDriver.ReleasePool", { PoolID }],
  ];
  for (const [name, body] of calls)
    expect((await callPlugin(path, name, body)).body["Err"]).toMatch(/did not finish/);
  starting.resolve();
  await until(() => calls.every(([name]) => server.counts().calls[name]?.late === 1));
  expect(carriedOut.toSorted()).toEqual(
    ["deleteEndpoint", "deleteNetwork", "leave", "releaseAddress", "releasePool"].toSorted(),
  );
  await server.stop();
});

/** Single addresses that the controller gave to this host. */
async function granted(): Promise<string[]> {
  const { blocks } = await cluster.controller.state();
  return blocks.map(({ block }) => block).filter((block) => block.endsWith("/32"));
}

function networkId() {
  const network = [...host.agent.bindings.networks().values()].at(0);
  if (network === undefined) throw new Error("no network");
  return network;
}
