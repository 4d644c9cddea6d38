import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { RemoteEntry } from "../../../agent/core/data-plane.ts";
import { VNI_OPTION } from "../../../agent/docker/views.ts";
import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { failOnCrashes } from "../../support/crashes.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import {
  createEndpoint,
  createNetwork,
  done,
  ENDPOINT,
  endpointBody,
  joinBody,
  makeEndpoint,
  NETWORK,
  pool,
  SUBNET,
} from "../../support/plugin-bodies.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-encrypting-"));
let cluster: FakeCluster;
let h1: FakeHost;
let h2: FakeHost;
let h3: FakeHost;

beforeEach(async () => {
  cluster = await fakeCluster(3, directory);
  [h1, h2, h3] = cluster.hosts as [FakeHost, FakeHost, FakeHost];
});
afterEach(() => cluster.stop());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const eventually = { timeout: 10_000 };

/** The network on the host's engine: made there, or a view of the cluster's. */
async function on(host: FakeHost, options: Record<string, string>): Promise<string> {
  const { PoolID } = await done(host, "IpamDriver.RequestPool", {
    AddressSpace: "overlay-ts",
    Pool: SUBNET,
    SubPool: "",
    Options: {},
    V6: false,
  });
  await done(host, "NetworkDriver.CreateNetwork", createNetwork({ options, pools: [pool()] }));
  return PoolID as string;
}

function record(host: FakeHost): NetworkRecord {
  const [network] = host.agent.replication.tables.state?.networks ?? [];
  if (network === undefined) throw new Error("no network");
  return network;
}

async function view(host: FakeHost): Promise<string> {
  await expect.poll(() => host.agent.replication.tables.state?.networks.length, eventually).toBe(1);
  return on(host, { [VNI_OPTION]: String(record(host).vni) });
}

/** An endpoint id of its own for each host. */
const endpointOf = (k: number): string => `f${k}`.repeat(32);

async function container(host: FakeHost, k: number, poolId: string): Promise<string> {
  const address = await makeEndpoint(host, poolId, endpointOf(k));
  await done(host, "NetworkDriver.Join", joinBody(endpointOf(k)));
  return address.split("/")[0]!;
}

function remotes(host: FakeHost): readonly Pick<RemoteEntry, "vtep">[] {
  return host.kernel.readNow(record(host).id).vxlanFdb;
}

/** A container on each host. */
async function everywhere(options: Record<string, string>): Promise<void> {
  await container(h1, 1, await on(h1, options));
  for (const [i, host] of [h2, h3].entries()) await container(host, i + 2, await view(host));
}

const inside = [1, 2, 3].map((k) => `198.19.0.${k}`);
const vteps = [1, 2, 3].map((k) => `198.51.100.${k}`);

async function whole(paths: readonly string[]): Promise<void> {
  for (const [i, host] of cluster.hosts.entries())
    await expect
      .poll(
        () =>
          remotes(host)
            .map(({ vtep }) => vtep)
            .toSorted(),
        eventually,
      )
      .toEqual(paths.filter((_, other) => other !== i));
}

describe("a network through WireGuard", () => {
  test("hosts reach each other by their addresses inside, on the class's port", async () => {
    await everywhere({ encryption: "wireguard" });
    await whole(inside);
    for (const [i, host] of cluster.hosts.entries())
      expect(host.kernel.readNow(record(host).id).device).toMatchObject({
        udpPort: 7949,
        localVtep: inside[i],
        mtuBytes: 1390,
      });
    const state = await h1.encryption.wireguard.read();
    expect(state?.peers).toHaveLength(2);
  });

  test("without a network of the class there is no device, and no key is said", async () => {
    await container(h1, 1, await on(h1, {}));
    await h1.quiet();
    expect(await h1.encryption.wireguard.read()).toBeUndefined();
    const { tables } = h1.agent.replication;
    expect(tables.hosts.get(h1.agent.identity.node)?.wireguardKey).toBeUndefined();
  });

  test("a host without WireGuard refuses its containers and says why; the others go on", async () => {
    const unsupported = new OverlayError({
      code: "UNSUPPORTED",
      message: "this host has no WireGuard",
      next: "load the kernel's module",
    });
    vi.spyOn(h3.encryption.wireguard, "set").mockRejectedValue(unsupported);
    await container(h1, 1, await on(h1, { encrypted: "" }));
    await container(h2, 2, await view(h2));
    const poolId = await view(h3);
    const { Address } = await done(h3, "IpamDriver.RequestAddress", {
      PoolID: poolId,
      Address: "",
      Options: null,
    });
    const body = createEndpoint(Address as string, endpointOf(3));
    const answer = await h3.call("NetworkDriver.CreateEndpoint", body);
    expect(answer.status).toBe(500);
    expect(answer.body["Err"]).toMatch(
      /is encrypted \(wireguard\), and this host cannot: this host has no WireGuard \(load the/,
    );
    expect(h3.agent.encrypting.failures()).toMatchObject([{ encryption: "wireguard" }]);
    await expect.poll(() => remotes(h1).map(({ vtep }) => vtep)).toEqual([inside[1]]);
  });

  test("while its tunnel fails a host keeps what stands, and mends it afterwards", async () => {
    await everywhere({ encryption: "wireguard" });
    await whole(inside);
    const applied = vi.spyOn(h1.kernel, "apply");
    const failing = vi
      .spyOn(h1.encryption.wireguard, "set")
      .mockRejectedValue(new OverlayError({ code: "NETLINK", message: "no device" }));
    h1.agent.encrypting.check();
    await expect.poll(() => h1.agent.encrypting.failure("wireguard")?.message).toBe("no device");
    await h1.agent.reconciler.settle(record(h1).id);
    expect(applied).not.toHaveBeenCalled();
    failing.mockRestore();
    await expect.poll(() => h1.agent.encrypting.failure("wireguard"), eventually).toBeUndefined();
    await whole(inside);
  });

  test("a host whose key is not told has no path; nothing else does for it", async () => {
    const { wireguard } = h3.agent.encrypting;
    vi.spyOn(wireguard, "publicKey").mockReturnValue(undefined);
    await everywhere({ encryption: "wireguard" });
    await expect.poll(() => remotes(h1).map(({ vtep }) => vtep), eventually).toEqual([inside[1]]);
    expect(wireguard.reading()?.peersOf.size).toBe(2);
    expect(h1.agent.encrypting.wireguard.reading()?.without).toEqual([
      { node: h3.agent.identity.node, reason: "no-key" },
    ]);
  });

  test("an agent that starts again never says less than its key, and takes nothing away", async () => {
    await everywhere({ encryption: "wireguard" });
    await whole(inside);
    const keys = new Set<string | undefined>();
    const self = h1.agent.identity.node;
    const { tables } = h2.agent.replication;
    const merge = tables.mergeHost.bind(tables);
    vi.spyOn(tables, "mergeHost").mockImplementation((document) => {
      if (document.node === self) keys.add(document.wireguardKey);
      return merge(document);
    });
    const applied = vi.spyOn(h1.kernel, "apply");
    const { next } = await h1.restarted();
    await expect.poll(() => next.encrypting.paths("wireguard")?.remote.size, eventually).toBe(2);
    await next.reconciler.settle(record(h1).id);
    expect(applied).not.toHaveBeenCalled();
    await done(h2, "NetworkDriver.DeleteEndpoint", endpointBody(endpointOf(2)));
    await expect.poll(() => remotes(h1).length, eventually).toBe(1);
    expect([...keys].filter((key) => key === undefined)).toEqual([]);
    await next.stop();
  });

  test("with its last network the tunnel goes, and the key is no longer said", async () => {
    await everywhere({ encryption: "wireguard" });
    await whole(inside);
    for (const [i, host] of cluster.hosts.entries()) {
      await done(host, "NetworkDriver.DeleteEndpoint", endpointBody(endpointOf(i + 1)));
      await done(host, "NetworkDriver.DeleteNetwork", { NetworkID: NETWORK });
    }
    for (const host of cluster.hosts) host.agent.hosting.refer(new Set());
    await h1.agent.ending.decide(record(h1).id);
    for (const host of cluster.hosts) {
      await expect.poll(() => host.encryption.wireguard.read(), eventually).toBeUndefined();
      await expect
        .poll(
          () => host.agent.replication.tables.hosts.get(host.agent.identity.node)?.wireguardKey,
          eventually,
        )
        .toBeUndefined();
    }
  });
});

describe("a network through IPsec", () => {
  const names = async (host: FakeHost): Promise<string[]> =>
    (await host.encryption.ipsecKernel.list()).map(
      ({ source, destination }) => `${source} > ${destination}`,
    );

  test("hosts have a key in each direction, and paths with them", async () => {
    await everywhere({ encryption: "ipsec" });
    await whole(vteps);
    expect(h1.kernel.readNow(record(h1).id).device).toMatchObject({
      udpPort: 7950,
      localVtep: vteps[0],
      mtuBytes: 1416,
    });
    const held = new Set(await names(h1));
    for (const peer of vteps.slice(1))
      expect(held).toEqual(held.add(`${vteps[0]} > ${peer}`).add(`${peer} > ${vteps[0]}`));
    expect(await h1.encryption.ipsecKernel.verifyPolicies()).toBe(true);
  });

  test("a host that is on no such network has no key, no policy", async () => {
    await container(h1, 1, await on(h1, { encryption: "ipsec" }));
    await container(h2, 2, await view(h2));
    await expect.poll(() => remotes(h1).map(({ vtep }) => vtep), eventually).toEqual([vteps[1]]);
    expect(await names(h3)).toEqual([]);
    expect(await h3.encryption.ipsecKernel.verifyPolicies()).toBe(false);
  });

  test("a kernel without it refuses, and says why", async () => {
    vi.spyOn(h1.encryption.ipsecKernel, "check").mockRejectedValue(
      new OverlayError({ code: "UNSUPPORTED", message: "no ESP", next: "modprobe esp4" }),
    );
    const poolId = await on(h1, { encryption: "ipsec" });
    const { Address } = await done(h1, "IpamDriver.RequestAddress", {
      PoolID: poolId,
      Address: "",
      Options: null,
    });
    const body = createEndpoint(Address as string, ENDPOINT);
    const answer = await h1.call("NetworkDriver.CreateEndpoint", body);
    expect(answer.body["Err"]).toMatch(/is encrypted \(ipsec\), and this host cannot: no ESP/);
  });

  test("when its policies cannot be put back the devices go down, and come up with them", async () => {
    await everywhere({ encryption: "ipsec" });
    await whole(vteps);
    const kernel = h1.encryption.ipsecKernel;
    kernel.policyFailure = new OverlayError({ code: "NETLINK", message: "policies refused" });
    kernel.flushPolicies();
    await expect.poll(() => h1.encryption.down, eventually).toEqual([7950]);
    expect(h1.agent.encrypting.failure("ipsec")?.message).toBe("policies refused");
    expect(h1.agent.encrypting.paths("ipsec")).toBeUndefined();
    kernel.policyFailure = undefined;
    await expect.poll(() => h1.agent.encrypting.failure("ipsec"), eventually).toBeUndefined();
    await whole(vteps);
  });

  test("flushed keys are asked for anew, and until then there is no path", async () => {
    await everywhere({ encryption: "ipsec" });
    await whole(vteps);
    const before = new Set((await h1.encryption.ipsecKernel.list()).map(({ spi }) => spi));
    h1.encryption.ipsecKernel.flushAssociations();
    await expect
      .poll(async () => (await h1.encryption.ipsecKernel.list()).length, eventually)
      .toBeGreaterThanOrEqual(4);
    const after = await h1.encryption.ipsecKernel.list();
    expect(after.filter(({ spi }) => before.has(spi))).toEqual([]);
    await whole(vteps);
  });

  test("an agent that starts again goes on with the keys that it finds", async () => {
    await everywhere({ encryption: "ipsec" });
    await whole(vteps);
    const applied = vi.spyOn(h1.kernel, "apply");
    const before = await names(h1);
    const { next } = await h1.restarted();
    await expect.poll(() => next.encrypting.paths("ipsec")?.remote.size, eventually).toBe(2);
    expect(await names(h1)).toEqual(before);
    await next.reconciler.settle(record(h1).id);
    expect(applied).not.toHaveBeenCalled();
    await next.stop();
  });
});
