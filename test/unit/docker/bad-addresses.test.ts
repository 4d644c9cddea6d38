import { VNI_OPTION } from "../../../agent/docker/views.ts";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { failOnCrashes } from "../../support/crashes.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import {
  createEndpoint,
  createNetwork,
  done,
  ENDPOINT,
  makeEndpoint,
  makeNetwork,
  OTHER_ENDPOINT,
  pool,
  refused,
  SUBNET,
} from "../../support/plugin-bodies.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-addresses-"));
const decoded = { decoded: true };
const NEW = "9d".repeat(32);
let cluster: FakeCluster;
let host: FakeHost;
let other: FakeHost;
let poolId: string;

beforeEach(async () => {
  cluster = await fakeCluster(2, directory);
  [host, other] = cluster.hosts as [FakeHost, FakeHost];
  poolId = await makeNetwork(host);
  await makeEndpoint(host, poolId);
  await host.quiet();
});

afterEach(() => cluster.stop());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const at = (address: string, mac = ""): object => createEndpoint(address, OTHER_ENDPOINT, mac);

describe("addresses that no container can have", () => {
  const none: [string, RegExp][] = [
    ["10.8.0.9", /10\.8\.0\.9 cannot be used on 10\.7\.0\.0\/24: it lies outside/],
    ["10.7.0.0", /the subnet's own address/],
    ["10.7.0.255", /the broadcast address/],
    ["10.7.0.1", /the gateway's/],
    ["0.0.0.0", /lies outside/],
    ["255.255.255.255", /lies outside/],
    ["224.0.0.1", /lies outside/],
  ];

  test.each(none)("CreateEndpoint with %s", async (ip, reason) => {
    await refused(host, "NetworkDriver.CreateEndpoint", at(`${ip}/24`), reason, decoded);
  });

  test.each(none)("RequestAddress of %s", async (ip, reason) => {
    const body = { PoolID: poolId, Address: ip, Options: null };
    await refused(host, "IpamDriver.RequestAddress", body, reason, decoded);
  });

  test.each(["10.7.0.0", "10.7.0.255", "10.8.0.1", "fd00::1"])(
    "the gateway %s for a pool that has no network yet",
    async (ip) => {
      const asked = { AddressSpace: "overlay-ts", Pool: "10.7.0.0/24", SubPool: "", V6: false };
      const { PoolID } = await done(host, "IpamDriver.RequestPool", asked);
      const Options = { RequestAddressType: "com.docker.network.gateway" };
      const body = { PoolID, Address: ip, Options };
      await refused(host, "IpamDriver.RequestAddress", body, /cannot be used on/, decoded);
    },
  );

  test("a gateway other than the network's", async () => {
    const Options = { RequestAddressType: "com.docker.network.gateway" };
    const body = { PoolID: poolId, Address: "10.7.0.9", Options };
    const reason = /has the gateway 10\.7\.0\.1, not 10\.7\.0\.9/;
    await refused(host, "IpamDriver.RequestAddress", body, reason, decoded);
  });

  test("another container's, and another host's", async () => {
    const [own] = host.agent.localNetworks.endpoints(networkId());
    const body = at(`${own?.ipv4}/24`);
    const reason = /is another container's on this network/;
    await refused(host, "NetworkDriver.CreateEndpoint", body, reason, decoded);
    const viewPool = await view(other);
    const asked = { PoolID: viewPool, Address: own?.ipv4, Options: null };
    await other.quiet();
    const theirs = /belongs to the addresses of host h1/;
    await refused(other, "IpamDriver.RequestAddress", asked, theirs, decoded);
    const elsewhere = at(`${own?.ipv4}/24`);
    await refused(other, "NetworkDriver.CreateEndpoint", elsewhere, theirs, decoded);
  });

  test("none at all", async () => {
    await refused(host, "NetworkDriver.CreateEndpoint", at(""), /needs an address/, decoded);
  });

  test.each(["10.7.0.9", "10.7.0.9/33", "10.7.0.9/-1", "10.7.0.9/x", "10.7.0/24", "010.7.0.9/24x"])(
    "%j is none",
    async (text) => {
      const reason = /not an address with prefix/;
      await refused(host, "NetworkDriver.CreateEndpoint", at(text), reason);
    },
  );

  test.each(["fe80::1/64", "::/0", "::ffff:10.7.0.9/120"])(
    "the IPv6 address %s where an IPv4 one belongs",
    async (text) => {
      await refused(host, "NetworkDriver.CreateEndpoint", at(text), /is not IPv4/);
    },
  );

  test.each(["fe80::1%eth0/64", "1::2::3/64", "fd00::1/129", ":::/8", "10.7.0.9/24"])(
    "as an IPv6 address: %s",
    async (text) => {
      const body = { ...at("10.7.0.9/24"), Interface: { AddressIPv6: text } };
      const reason = /not an address with prefix|is not IPv6/;
      await refused(host, "NetworkDriver.CreateEndpoint", body, reason);
    },
  );

  test.each(["10.7.0.9/24", "10.7.0", "x", "10.7.0.256", "fe80::1%eth0"])(
    "as an address without prefix: %s",
    async (text) => {
      const body = { PoolID: poolId, Address: text, Options: null };
      await refused(host, "IpamDriver.RequestAddress", body, /not an IP address/);
      await refused(host, "IpamDriver.ReleaseAddress", body, /not an IP address/);
    },
  );
});

describe("MAC addresses that no container can have", () => {
  test.each<[string, RegExp, boolean]>([
    ["01:00:5e:00:00:01", /no unicast Ethernet address/, false],
    ["33:33:00:00:00:01", /no unicast Ethernet address/, false],
    ["ff:ff:ff:ff:ff:ff", /no unicast Ethernet address/, false],
    ["00:00:00:00:00:00", /no unicast Ethernet address/, false],
    ["0a:00:00:00:00", /no unicast Ethernet address/, false],
    ["0a:00:00:00:00:01:02:03", /no unicast Ethernet address/, false],
    ["0a-00-00-00-00-01", /no unicast Ethernet address/, false],
    ["text", /no unicast Ethernet address/, false],
    ["02:42:0a:07:00:01", /is the gateway's of this network/, true],
  ])("%s", async (mac, reason, wasRead) => {
    const body = at("10.7.0.200/24", mac);
    await refused(host, "NetworkDriver.CreateEndpoint", body, reason, { decoded: wasRead });
  });

  test("as bytes in an option", async () => {
    for (const bytes of [[1, 0, 94, 0, 0, 1], [], [2, 0, 0], [10, 0, 0, 0, 0, 0, 0, 1]]) {
      const option = Buffer.from(bytes).toString("base64") || "=";
      const Options = { "com.docker.network.endpoint.macaddress": option };
      const body = { ...at("10.7.0.200/24"), Options };
      const reason = /no unicast Ethernet address/;
      await refused(host, "NetworkDriver.CreateEndpoint", body, reason);
    }
  });

  test("another container's, also on another host", async () => {
    const mac = "0a:00:00:00:00:01";
    const asked = { PoolID: poolId, Address: "", Options: null };
    const { Address } = await done(host, "IpamDriver.RequestAddress", asked);
    const first = createEndpoint(Address as string, OTHER_ENDPOINT, mac);
    await done(host, "NetworkDriver.CreateEndpoint", first);
    const viewPool = await view(other);
    await makeEndpoint(other, viewPool);
    await other.agent.replication.completed(networkId(), 5000);
    const theirs = await done(other, "IpamDriver.RequestAddress", { ...asked, PoolID: viewPool });
    const second = createEndpoint(theirs["Address"] as string, "f5".repeat(32), mac);
    await other.quiet();
    const reason = /the MAC address 0a:00:00:00:00:01 is another container's/;
    await refused(other, "NetworkDriver.CreateEndpoint", second, reason, decoded);
    // As Docker makes them, of an address that it had before.
    const kept = createEndpoint(theirs["Address"] as string, "f5".repeat(32), "02:42:0a:07:00:f0");
    expect(await done(other, "NetworkDriver.CreateEndpoint", kept)).toEqual({ Interface: {} });
    await done(other, "NetworkDriver.DeleteEndpoint", kept);
  });
});

describe("subnets that no network can have", () => {
  test.each<[object, RegExp, boolean]>([
    [{ Pool: "10.8.0.0/33" }, /not a subnet in CIDR form/, false],
    [{ Pool: "10.8.0.0" }, /not a subnet in CIDR form/, false],
    [{ Pool: "x/24" }, /not a subnet in CIDR form/, false],
    [{ Pool: "fd00::/64" }, /is not IPv4/, false],
    [{ Gateway: "10.8.0.1" }, /not an address with prefix/, false],
    [{ Pool: "10.8.0.0/30", Gateway: "" }, /too small/, true],
    [{ Pool: "10.8.0.0/32", Gateway: "" }, /too small/, true],
    [{ Pool: "0.0.0.0/0", Gateway: "" }, /overlaps 0\.0\.0\.0\/8/, true],
    [{ Pool: "127.5.0.0/16", Gateway: "" }, /overlaps 127\.0\.0\.0\/8/, true],
    [{ Pool: "224.1.0.0/16", Gateway: "" }, /overlaps 224\.0\.0\.0\/3/, true],
    [{ Pool: "10.255.240.0/24", Gateway: "" }, /overlaps 10\.255\.240\.0\/20/, true],
    [{ Pool: "10.8.0.0/24", Gateway: "10.9.0.1/24" }, /gateway 10\.9\.0\.1 is no host/, true],
    [{ Pool: "10.8.0.0/24", Gateway: "10.8.0.255/24" }, /gateway 10\.8\.0\.255 is no host/, true],
    [{ Pool: "10.8.0.0/24", Gateway: "fd00::1/64" }, /gateway fd00::1 is no host/, true],
  ])("%j", async (changes, reason, wasRead) => {
    const body = createNetwork({ id: NEW, pools: [pool(changes)] });
    await refused(host, "NetworkDriver.CreateNetwork", body, reason, { decoded: wasRead });
  });

  test("a second one of the same family", async () => {
    const pools = [
      pool({ Pool: "10.8.0.0/24", Gateway: "10.8.0.1/24" }),
      pool({ Pool: "10.9.0.0/24", Gateway: "10.9.0.1/24" }),
    ];
    const body = createNetwork({ id: NEW, pools });
    const reason = /has one IPv4 subnet, and these were given: 10\.8\.0\.0\/24, 10\.9\.0\.0\/24/;
    await refused(host, "NetworkDriver.CreateNetwork", body, reason);
  });

  test("an IPv4 one among the IPv6 ones", async () => {
    const body = { ...createNetwork({ id: NEW }), IPv6Data: [pool()] };
    await refused(host, "NetworkDriver.CreateNetwork", body, /10\.7\.0\.0\/24 is not IPv6/);
  });

  test.each<[object, RegExp]>([
    [{ Pool: "10.8.0.0/99" }, /not a subnet in CIDR form/],
    [{ Pool: "fd00::/64" }, /is not IPv4/],
    [{ Pool: "10.8.0.0/24", V6: true }, /is not IPv6/],
    [{ SubPool: "10.8.0.0/25" }, /range 10\.8\.0\.0\/25 does not lie in a subnet that was given/],
    [{ Pool: "10.8.0.0/24", SubPool: "10.9.0.0/25" }, /does not lie in 10\.8\.0\.0\/24/],
    [{ Pool: "10.8.0.0/24", SubPool: "10.0.0.0/8" }, /does not lie in 10\.8\.0\.0\/24/],
    [{ Options: { foo: "bar" } }, /no IPAM option foo/],
  ])("as a pool: %j", async (changes, reason) => {
    const empty = { AddressSpace: "overlay-ts", Pool: "", SubPool: "", Options: {}, V6: false };
    await refused(host, "IpamDriver.RequestPool", { ...empty, ...changes }, reason);
  });
});

describe("options that no network has", () => {
  test.each<[Record<string, string>, RegExp]>([
    [{ foo: "bar" }, /no network option foo \(known are encryption, encrypted, mtu, /],
    [{ MTU: "1400" }, /no network option MTU/],
    [{ "com.docker.network.bridge.name": "br7" }, /no network option com\.docker\.network\.bridge/],
    [{ mtu: "1e3" }, /an MTU of 1e3 does not fit/],
    [{ mtu: "-1" }, /an MTU of -1 does not fit/],
    [{ mtu: "99999999999999999999" }, /does not fit/],
    [{ encrypted: "no" }, /encrypted=no is neither true nor false/],
    [{ encryption: "rot13" }, /encryption=rot13 is not one of/],
  ])("%j", async (options, reason) => {
    const body = createNetwork({ id: NEW, options });
    await refused(host, "NetworkDriver.CreateNetwork", body, reason, decoded);
  });
});

describe("--aux-address", () => {
  const reserved = ["10.8.0.66", "10.8.0.67", "10.8.0.200"];
  const AuxAddresses = Object.fromEntries(reserved.map((ip, i) => [`a${i}`, `${ip}/24`]));
  const mine = { Pool: "10.8.0.0/24", Gateway: "10.8.0.1/24", AuxAddresses };

  test("no container gets it, on no host, whoever hands out the addresses", async () => {
    const asked = { AddressSpace: "overlay-ts", Pool: "10.8.0.0/24", SubPool: "10.8.0.64/29" };
    const { PoolID } = await done(host, "IpamDriver.RequestPool", { ...asked, V6: false });
    // Docker asks for each at our IPAM, before there is a network.
    for (const ip of reserved)
      expect(
        await done(host, "IpamDriver.RequestAddress", { PoolID, Address: ip, Options: null }),
      ).toMatchObject({ Address: `${ip}/24` });
    const body = createNetwork({ id: NEW, pools: [pool(mine)] });
    await done(host, "NetworkDriver.CreateNetwork", body);
    const given: unknown[] = [];
    const full = await exhaust(host, PoolID as string, given);
    expect(full).toMatch(/every address of 10\.8\.0\.64\/29 is given/);
    expect(given).toEqual(["64", "65", "68", "69", "70", "71"].map((last) => `10.8.0.${last}/24`));
    await host.quiet();
    const viewPool = await view(other, "10.8.0.0/24");
    await other.quiet();
    for (const [where, id] of [
      [host, PoolID],
      [other, viewPool],
    ] as const)
      for (const ip of reserved) {
        const byName = { PoolID: id, Address: ip, Options: null };
        const reason = /it is reserved \(--aux-address\)/;
        await refused(where, "IpamDriver.RequestAddress", byName, reason, decoded);
      }
  });

  test("with Docker's own IPAM", async () => {
    const docker = pool({ ...mine, AddressSpace: "LocalDefault" });
    await done(host, "NetworkDriver.CreateNetwork", createNetwork({ id: NEW, pools: [docker] }));
    const viewPool = await view(other, "10.8.0.0/24");
    const given: unknown[] = [];
    await exhaust(other, viewPool, given);
    expect(given).toHaveLength(126);
    expect(given).not.toContain("10.8.0.200/24");
    const body = { ...createEndpoint("10.8.0.66/24"), NetworkID: NEW };
    const reason = /it is reserved \(--aux-address\)/;
    await host.quiet();
    await refused(host, "NetworkDriver.CreateEndpoint", body, reason, decoded);
  });

  test("outside of --ip-range, where Docker's own IPAM does not tell it", async () => {
    const AuxAddresses = { printer: "<nil>" };
    const docker = pool({ ...mine, AddressSpace: "LocalDefault", AuxAddresses });
    const body = createNetwork({ id: NEW, pools: [docker] });
    const reason = /does not say which address --aux-address printer is.*--ipam-driver overlay-ts/;
    await refused(host, "NetworkDriver.CreateNetwork", body, reason);
  });

  test("outside of the subnet, and too many", async () => {
    const outside = pool({ ...mine, AuxAddresses: { a: "10.9.0.5/24" } });
    const body = createNetwork({ id: NEW, pools: [outside] });
    const reason = /--aux-address 10\.9\.0\.5 does not lie in 10\.8\.0\.0\/24/;
    await refused(host, "NetworkDriver.CreateNetwork", body, reason, decoded);
    const many = Object.fromEntries(
      Array.from({ length: 65 }, (_, i) => [`a${i}`, `10.8.0.${i + 2}/24`]),
    );
    const crowd = createNetwork({ id: NEW, pools: [pool({ ...mine, AuxAddresses: many })] });
    await refused(host, "NetworkDriver.CreateNetwork", crowd, /reserved: Too big/, decoded);
  });
});

/** Every address there is, until the call fails: with what it says then. */
async function exhaust(where: FakeHost, id: string, given: unknown[]): Promise<unknown> {
  for (;;) {
    const asked = { PoolID: id, Address: "", Options: null };
    const { status, body } = await where.call("IpamDriver.RequestAddress", asked);
    if (status !== 200) return body["Err"];
    given.push(body["Address"]);
  }
}

/** The network on an engine it was not made on, as the agent there makes it. */
async function view(where: FakeHost, subnet = SUBNET): Promise<string> {
  const { networks } = await cluster.controller.state();
  const found = networks.find(({ subnets }) => subnets[0]?.subnet === subnet);
  await expect
    .poll(() => where.agent.replication.tables.state?.networks.some(({ id }) => id === found?.id))
    .toBe(true);
  const options = { [VNI_OPTION]: String(found?.vni) };
  const asked = { AddressSpace: "overlay-ts", Pool: subnet, SubPool: "", Options: {}, V6: false };
  const { PoolID } = await done(where, "IpamDriver.RequestPool", asked);
  const pools = [pool({ Pool: subnet, Gateway: `${found?.subnets[0]?.gateway}/24` })];
  await done(where, "NetworkDriver.CreateNetwork", createNetwork({ options, pools }));
  return PoolID as string;
}

function networkId() {
  const network = [...host.agent.bindings.networks().values()].at(0);
  if (network === undefined) throw new Error("no network");
  expect(host.agent.localNetworks.endpoints(network).map(({ id }) => id)).toContain(ENDPOINT);
  return network;
}
