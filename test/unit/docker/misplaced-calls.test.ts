import { VNI_OPTION } from "../../../agent/docker/views.ts";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { DockerNetworkId } from "../../../shared/ids.ts";
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
  makeEndpoint,
  makeNetwork,
  NETWORK,
  OTHER_ENDPOINT,
  OTHER_NETWORK,
  pool,
  refused,
  SUBNET,
  until,
} from "../../support/plugin-bodies.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-order-"));
const inDecoded = { decoded: true };
let cluster: FakeCluster;
let host: FakeHost;

beforeEach(async () => {
  cluster = await fakeCluster(1, directory);
  [host] = cluster.hosts as [FakeHost];
});

afterEach(() => cluster.stop());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** The call succeeds and changes nothing: what Docker gives up is gone already. */
async function nothing(name: string, body: unknown): Promise<void> {
  const before = await host.tables();
  await done(host, name, body);
  expect(await host.tables()).toBe(before);
}

const ids = (): string[] => {
  const { bindings, localNetworks } = host.agent;
  return [...new Set(bindings.networks().values())].flatMap((network) =>
    localNetworks.endpoints(network).map(({ id }) => id),
  );
};

describe("what this host does not know", () => {
  test("a network", async () => {
    const unknown = /knows no network 9a9a9a9a9a9a/;
    const endpoint = createEndpoint("10.7.0.9/24");
    await refused(host, "NetworkDriver.CreateEndpoint", endpoint, unknown, inDecoded);
    await refused(host, "NetworkDriver.Join", joinBody(), unknown, inDecoded);
  });

  test("an endpoint", async () => {
    await makeNetwork(host);
    await host.quiet();
    await refused(host, "NetworkDriver.Join", joinBody(), /knows no endpoint f1f1/, inDecoded);
  });

  test.each(["p-00 10.7.0.0/24", "x", "p-00 nonsense", ""])("the pool %j", async (id) => {
    await makeNetwork(host);
    await host.quiet();
    const body = { PoolID: id, Address: "", Options: {} };
    if (id !== "p-00 10.7.0.0/24")
      await refused(host, "IpamDriver.RequestAddress", body, /knows no address pool/, inDecoded);
    await nothing("IpamDriver.ReleaseAddress", { PoolID: id, Address: "10.7.0.9" });
  });

  test("a cluster's network, by a VNI in an option", async () => {
    for (const vni of ["4711", "nonsense", ""]) {
      const view = createNetwork({ options: { [VNI_OPTION]: vni } });
      const unknown = /the cluster has no network with VNI/;
      await refused(host, "NetworkDriver.CreateNetwork", view, unknown, inDecoded);
    }
  });

  test("what is given up is gone already", async () => {
    await nothing("NetworkDriver.DeleteNetwork", { NetworkID: NETWORK });
    await nothing("NetworkDriver.DeleteEndpoint", endpointBody());
    await nothing("NetworkDriver.Leave", endpointBody());
    await nothing("IpamDriver.ReleasePool", { PoolID: "p-00 10.7.0.0/24" });
    await nothing("IpamDriver.ReleaseAddress", { PoolID: "p-00", Address: "10.7.0.9" });
  });
});

describe("in the wrong order", () => {
  test("DeleteEndpoint and Leave before, and Leave twice after", async () => {
    const poolId = await makeNetwork(host);
    await host.quiet();
    await nothing("NetworkDriver.DeleteEndpoint", endpointBody());
    await nothing("NetworkDriver.Leave", endpointBody());
    await makeEndpoint(host, poolId);
    await done(host, "NetworkDriver.Join", joinBody());
    await done(host, "NetworkDriver.Leave", endpointBody());
    await host.quiet();
    await nothing("NetworkDriver.Leave", endpointBody());
    expect(ids()).toEqual([ENDPOINT]);
  });

  test("Join after DeleteEndpoint", async () => {
    const poolId = await makeNetwork(host);
    await makeEndpoint(host, poolId);
    await makeEndpoint(host, poolId, OTHER_ENDPOINT);
    await done(host, "NetworkDriver.DeleteEndpoint", endpointBody());
    await host.quiet();
    await refused(host, "NetworkDriver.Join", joinBody(), /knows no endpoint/, inDecoded);
  });

  test("CreateEndpoint after DeleteNetwork", async () => {
    await makeNetwork(host);
    await done(host, "NetworkDriver.DeleteNetwork", { NetworkID: NETWORK });
    await host.quiet();
    const body = createEndpoint("10.7.0.65/24");
    await refused(host, "NetworkDriver.CreateEndpoint", body, /knows no network/, inDecoded);
  });

  test("DeleteNetwork without DeleteEndpoint: the endpoint and its address go with it", async () => {
    const poolId = await makeNetwork(host);
    await makeEndpoint(host, poolId);
    const network = networkId();
    const { bindings, localNetworks } = host.agent;
    await done(host, "NetworkDriver.DeleteNetwork", { NetworkID: NETWORK });
    expect(localNetworks.endpoints(network)).toEqual([]);
    expect([...host.agent.leases.of(network)]).toEqual([]);
    expect(bindings.removed()).toEqual(new Set([network]));
  });

  test("DeleteNetwork of one of two views: what runs on the network stays", async () => {
    const poolId = await makeNetwork(host);
    await makeEndpoint(host, poolId);
    const network = networkId();
    host.agent.bindings.bind(DockerNetworkId.parse("9b".repeat(32)), network);
    await done(host, "NetworkDriver.DeleteNetwork", { NetworkID: NETWORK });
    expect(ids()).toEqual([ENDPOINT]);
  });

  test("an address that is released before its endpoint goes is not given again", async () => {
    const poolId = await makeNetwork(host);
    const address = await makeEndpoint(host, poolId);
    const [ip] = address.split("/");
    await done(host, "IpamDriver.ReleaseAddress", { PoolID: poolId, Address: ip });
    const again = { PoolID: poolId, Address: ip, Options: null };
    await host.quiet();
    await refused(host, "IpamDriver.RequestAddress", again, /used by another container/, inDecoded);
    for (let i = 0; i < 40; i++) {
      const asked = { PoolID: poolId, Address: "", Options: null };
      expect(await done(host, "IpamDriver.RequestAddress", asked)).not.toMatchObject({
        Address: address,
      });
    }
  });
});

describe("twice", () => {
  test("CreateNetwork, though another pool like its own is asked for", async () => {
    await makeNetwork(host);
    const body = { AddressSpace: "overlay-ts", Pool: SUBNET, SubPool: "", Options: {}, V6: false };
    const other = await done(host, "IpamDriver.RequestPool", body);
    await host.quiet();
    await nothing("NetworkDriver.CreateNetwork", createNetwork());
    const network = host.agent.ipam.pools.get(other["PoolID"] as string)?.network;
    expect(network).toBeUndefined();
  });

  test("CreateNetwork with another subnet is none", async () => {
    await makeNetwork(host);
    await host.quiet();
    const body = createNetwork({ pools: [pool({ Pool: "10.9.0.0/24", Gateway: "10.9.0.1/24" })] });
    const reason = /has 10\.7\.0\.0\/24, not 10\.9\.0\.0\/24/;
    await refused(host, "NetworkDriver.CreateNetwork", body, reason, inDecoded);
  });

  test("CreateEndpoint, Join, DeleteEndpoint", async () => {
    const poolId = await makeNetwork(host);
    const address = await makeEndpoint(host, poolId);
    await host.quiet();
    await nothing("NetworkDriver.CreateEndpoint", createEndpoint(address));
    const first = await done(host, "NetworkDriver.Join", joinBody());
    expect(await done(host, "NetworkDriver.Join", joinBody())).toEqual(first);
    await done(host, "NetworkDriver.DeleteEndpoint", endpointBody());
    await host.quiet();
    await nothing("NetworkDriver.DeleteEndpoint", endpointBody());
  });

  test("CreateEndpoint with another address or MAC is none", async () => {
    const poolId = await makeNetwork(host);
    await makeEndpoint(host, poolId);
    await host.quiet();
    const reason = /endpoint f1f1f1f1f1f1 is on this network with 10\.7\.0\.\d+/;
    const moved = createEndpoint("10.7.0.77/24");
    await refused(host, "NetworkDriver.CreateEndpoint", moved, reason, inDecoded);
    const [own] = host.agent.localNetworks.endpoints(networkId());
    const renamed = createEndpoint(`${own?.ipv4}/24`, ENDPOINT, "0a:00:00:00:00:01");
    await refused(host, "NetworkDriver.CreateEndpoint", renamed, reason, inDecoded);
  });

  test("DeleteNetwork, ReleasePool, ReleaseAddress", async () => {
    const poolId = await makeNetwork(host);
    for (const [name, body] of [
      ["NetworkDriver.DeleteNetwork", { NetworkID: NETWORK }],
      ["IpamDriver.ReleaseAddress", { PoolID: poolId, Address: "10.7.0.1" }],
      ["IpamDriver.ReleasePool", { PoolID: poolId }],
    ] as const) {
      await done(host, name, body);
      await host.quiet();
      await nothing(name, body);
    }
  });
});

describe("at once", () => {
  const ten = <T>(work: (i: number) => Promise<T>): Promise<T[]> =>
    Promise.all(Array.from({ length: 10 }, (_, i) => work(i)));
  const idOf = (i: number): string => (0xa0 + i).toString(16).repeat(32);

  test("ten CreateEndpoint for one id are one endpoint", async () => {
    const poolId = await makeNetwork(host);
    const asked = { PoolID: poolId, Address: "", Options: null };
    const { Address } = await done(host, "IpamDriver.RequestAddress", asked);
    const before = seqOf();
    const answers = await ten(() =>
      done(host, "NetworkDriver.CreateEndpoint", createEndpoint(Address as string)),
    );
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(ids()).toEqual([ENDPOINT]);
    expect(seqOf()).toBe(before + 1);
  });

  test("ten CreateEndpoint for one address: one container has it", async () => {
    await makeNetwork(host);
    // All of them wait for the controller's word before one is done.
    const release = host.control.hold();
    const calls = ten((i) =>
      host.call("NetworkDriver.CreateEndpoint", createEndpoint("10.7.0.9/24", idOf(i))),
    );
    await until(() => countsOf(host, "NetworkDriver.CreateEndpoint").decoded === 10);
    release();
    const answers = await calls;
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    for (const { status, body } of answers)
      if (status !== 200) expect(body["Err"]).toMatch(/is another container's on this network \(/);
    expect(ids()).toHaveLength(1);
  });

  test("ten CreateEndpoint with one MAC: one container has it", async () => {
    const poolId = await makeNetwork(host);
    const answers = await ten(async (i) => {
      const asked = { PoolID: poolId, Address: "", Options: null };
      const { Address } = await done(host, "IpamDriver.RequestAddress", asked);
      const body = createEndpoint(Address as string, idOf(i), "0a:00:00:00:00:01");
      return host.call("NetworkDriver.CreateEndpoint", body);
    });
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
  });

  test("ten RequestAddress give ten addresses; ten for one address give it once", async () => {
    const poolId = await makeNetwork(host);
    const any = { PoolID: poolId, Address: "", Options: null };
    const given = await ten(() => done(host, "IpamDriver.RequestAddress", any));
    expect(new Set(given.map(({ Address }) => Address)).size).toBe(10);
    const one = { PoolID: poolId, Address: "10.7.0.20", Options: null };
    const answers = await ten(() => host.call("IpamDriver.RequestAddress", one));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
  });

  test("ten CreateNetwork for one id are one network", async () => {
    await ten(() => done(host, "NetworkDriver.CreateNetwork", createNetwork()));
    expect((await cluster.controller.state()).networks).toHaveLength(1);
    expect([...host.agent.bindings.networks().keys()]).toEqual([NETWORK]);
  });

  test("two networks with one subnet have a pool each", async () => {
    const body = { AddressSpace: "overlay-ts", Pool: SUBNET, SubPool: "", Options: {}, V6: false };
    const pools = [
      await done(host, "IpamDriver.RequestPool", body),
      await done(host, "IpamDriver.RequestPool", body),
    ];
    await Promise.all(
      [NETWORK, OTHER_NETWORK].map((id) =>
        done(host, "NetworkDriver.CreateNetwork", createNetwork({ id })),
      ),
    );
    const bound = pools.map(({ PoolID }) => host.agent.ipam.pools.get(PoolID as string)?.network);
    expect(new Set(bound)).toEqual(new Set(host.agent.bindings.networks().values()));
  });

  test("CreateEndpoint and DeleteNetwork: no endpoint is on a network that is gone", async () => {
    await makeNetwork(host);
    const network = networkId();
    const release = host.control.hold();
    const endpoint = createEndpoint("10.7.0.9/24");
    const created = host.call("NetworkDriver.CreateEndpoint", endpoint);
    await until(() => countsOf(host, "NetworkDriver.CreateEndpoint").decoded === 1);
    const deleted = host.call("NetworkDriver.DeleteNetwork", { NetworkID: NETWORK });
    await until(() => countsOf(host, "NetworkDriver.DeleteNetwork").decoded === 1);
    release();
    const { status, body } = await created;
    expect({ status, body }).toMatchObject({ status: 500 });
    expect(body["Err"]).toMatch(/knows no network|has no network/);
    expect((await deleted).status).toBe(200);
    expect(host.agent.localNetworks.endpoints(network)).toEqual([]);
  });

  test("CreateEndpoint and a view that goes, of a network that stays", async () => {
    await makeNetwork(host);
    const release = host.control.hold();
    const endpoint = createEndpoint("10.7.0.9/24");
    const created = host.call("NetworkDriver.CreateEndpoint", endpoint);
    await until(() => countsOf(host, "NetworkDriver.CreateEndpoint").decoded === 1);
    const network = networkId();
    host.agent.bindings.unbind(DockerNetworkId.parse(NETWORK));
    release();
    expect((await created).body["Err"]).toMatch(/knows no network 9a9a/);
    expect(host.agent.localNetworks.endpoints(network)).toEqual([]);
  });

  test("pools that nobody makes a network of are bounded", async () => {
    const body = { AddressSpace: "overlay-ts", Pool: SUBNET, SubPool: "", Options: {}, V6: false };
    for (let i = 0; i < 100; i++) await done(host, "IpamDriver.RequestPool", body);
    expect(host.agent.ipam.pools.all()).toHaveLength(64);
  });
});

function networkId() {
  const [network] = host.agent.bindings.networks().values();
  if (network === undefined) throw new Error("no network");
  return network;
}

function seqOf(): number {
  const document = host.agent.replication.tables
    .documents(networkId())
    .get(host.agent.identity.node);
  return document?.version.seq ?? 0;
}
