import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { RemoteEntry } from "../../../agent/core/data-plane/kernel-state.ts";
import { VNI_OPTION } from "../../../agent/docker/views.ts";
import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import { statusOf } from "../../../agent/api/status.ts";
import { verify } from "../../../agent/api/verify.ts";
import { wireguardPublicKey } from "../../../agent/encryption/wireguard/keys.ts";
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

/** Of h2, as h1 has it. */
async function seenFrom1(of: "wireguard" | "ipsec") {
  const node = h2.agent.identity.node;
  const { encryption, dataPath, problems } = await statusOf(h1.agent);
  const { path, why } = encryption[of]!.peers.find((peer) => peer.node === node)!;
  return {
    path,
    why,
    inClear: dataPath.find((proof) => proof.node === node)?.roundTripMs !== undefined,
    problem: problems?.find(({ what }) => what === of)?.message.split(",")[0],
    outOn: (["none", "wireguard", "ipsec"] as const).filter((encrypted) =>
      h1.agent.reach.lostThrough(encrypted).has(node),
    ),
    lost: h1.agent.reach.lost().has(node),
  };
}

const REACHED = {
  path: true,
  why: undefined,
  inClear: true,
  problem: undefined,
  outOn: [],
  lost: false,
};

/** The class answers, then is dead for h2 alone, then answers. */
async function deadAndBack(of: "wireguard" | "ipsec", dead: Set<string>, address: string) {
  await expect.poll(() => answersThrough(of), eventually).toEqual([true, true]);
  expect(await seenFrom1(of)).toEqual(REACHED);
  dead.add(address);
  const title = of === "wireguard" ? "WireGuard" : "IPsec";
  await expect
    .poll(() => seenFrom1(of), eventually)
    .toEqual({
      path: false,
      why: "silent",
      inClear: true,
      problem: `no answer through ${title} from h2`,
      outOn: [of],
      lost: false,
    });
  expect(await answersThrough(of)).toEqual([false, true]);
  dead.clear();
  await expect.poll(() => seenFrom1(of), eventually).toEqual(REACHED);
}

/** Of h2 and h3, asked now. */
async function answersThrough(of: "wireguard" | "ipsec"): Promise<boolean[]> {
  const all = await h1.agent.dataPaths.probeAll();
  return all
    .filter(({ encryption }) => encryption === of)
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ roundTripMs }) => roundTripMs !== undefined);
}

describe("a network through WireGuard", () => {
  test("a peer that is silent through the tunnel is so for its networks, and for no others", async () => {
    await everywhere({ encryption: "wireguard" });
    await whole(inside);
    await deadAndBack("wireguard", h1.encryption.underlay.silent, inside[1]!);
  });

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
    expect(h3.agent.encryption.failures()).toMatchObject([{ encryption: "wireguard" }]);
    await expect.poll(() => remotes(h1).map(({ vtep }) => vtep)).toEqual([inside[1]]);
  });

  test("while its tunnel fails a host keeps what stands, and mends it afterwards", async () => {
    await everywhere({ encryption: "wireguard" });
    await whole(inside);
    const applied = vi.spyOn(h1.kernel, "apply");
    const failing = vi
      .spyOn(h1.encryption.wireguard, "set")
      .mockRejectedValue(new OverlayError({ code: "NETLINK", message: "no device" }));
    h1.agent.encryption.check();
    await expect.poll(() => h1.agent.encryption.failure("wireguard")?.message).toBe("no device");
    await h1.agent.reconciler.settle(record(h1).id);
    expect(applied).not.toHaveBeenCalled();
    failing.mockRestore();
    await expect.poll(() => h1.agent.encryption.failure("wireguard"), eventually).toBeUndefined();
    await whole(inside);
  });

  test("a host whose key is not told has no path; nothing else does for it", async () => {
    const { wireguard } = h3.agent.encryption;
    vi.spyOn(wireguard, "publicKey").mockReturnValue(undefined);
    await everywhere({ encryption: "wireguard" });
    await expect.poll(() => remotes(h1).map(({ vtep }) => vtep), eventually).toEqual([inside[1]]);
    expect(wireguard.reading()?.peersOf.size).toBe(2);
    expect(h1.agent.encryption.wireguard.reading()?.without).toEqual([
      { node: h3.agent.identity.node, reason: "no-key" },
    ]);
    // Nothing gets there: its containers are in no answer on this network, and it is lost on no other.
    const node = h3.agent.identity.node;
    const { reach } = h1.agent;
    await expect.poll(() => reach.lostThrough("wireguard").has(node), eventually).toBe(true);
    expect([reach.lostThrough("none").has(node), reach.lost().has(node)]).toEqual([false, false]);
    const { problems } = await statusOf(h1.agent);
    expect(problems).toMatchObject([
      { what: "wireguard", message: expect.stringContaining("no key of WireGuard with h3") },
    ]);
  });

  test("a host's key is changed: in its file, its device and with the others, and no path is ever away", async () => {
    await everywhere({ encryption: "wireguard" });
    await whole(inside);
    const { wireguard } = h1.agent.encryption;
    const before = wireguard.publicKey();
    const applied = vi.spyOn(h2.kernel, "apply");
    const keysAt2 = async () =>
      (await h2.encryption.wireguard.read())?.peers.map(({ publicKey }) => publicKey);
    expect(wireguard.rotate()).toBe(true);
    await expect.poll(keysAt2, eventually).not.toContain(before);
    const after = wireguardPublicKey(h1.encryption.wireguardKey());
    expect(await keysAt2()).toContain(after);
    expect(after).not.toBe(before);
    expect(wireguard.publicKey()).toBe(after);
    expect((await h1.encryption.wireguard.read())?.publicKey).toBe(after);
    expect(applied).not.toHaveBeenCalled();
    await whole(inside);
  });

  test("a key that the disk does not take is no key: the one before stays", async () => {
    await everywhere({ encryption: "wireguard" });
    await whole(inside);
    const { wireguard } = h1.agent.encryption;
    const before = wireguard.publicKey();
    vi.spyOn(h1.encryption, "keepWireguardKey").mockImplementation(() => {
      throw new OverlayError({ code: "STORE", message: "full" });
    });
    expect(() => wireguard.rotate()).toThrow("full");
    expect(wireguard.publicKey()).toBe(before);
    h1.agent.encryption.check();
    await h1.agent.encryption.wireguard.tried();
    expect((await h1.encryption.wireguard.read())?.publicKey).toBe(before);
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
    await expect.poll(() => next.encryption.paths("wireguard")?.remote.size, eventually).toBe(2);
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
    for (const host of cluster.hosts) host.agent.localNetworks.refer(new Set());
    await h1.agent.networkRemoval.decide(record(h1).id);
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

  test("policies that went without a word are found by verify, and put back with the next look", async () => {
    const missing = { what: "ipsec", text: "its policies are not what was written" };
    await everywhere({ encryption: "ipsec" });
    await whole(vteps);
    await expect.poll(() => verify(h1.agent), eventually).toEqual([]);
    await h1.encryption.ipsecKernel.removeAll();
    expect(await verify(h1.agent)).toEqual([missing]);
    vi.spyOn(h1.encryption.ipsecKernel, "verifyPolicies").mockRejectedValueOnce(new Error("EPERM"));
    expect(await verify(h1.agent)).toEqual([{ ...missing, text: "cannot be read: EPERM" }]);
    h1.agent.encryption.check();
    await expect.poll(() => verify(h1.agent), eventually).toEqual([]);
  });

  test("a peer that is silent under ESP is so for its networks, and for no others", async () => {
    await everywhere({ encryption: "ipsec" });
    await whole(vteps);
    await deadAndBack("ipsec", h1.encryption.silentInIpsec, "198.18.0.2");
  });

  test("a peer of 0.1.0, which answers nothing there, is not taken for dead", async () => {
    const { tables } = h1.agent.replication;
    const merge = tables.mergeHost.bind(tables);
    const { node } = h1.agent.identity;
    vi.spyOn(tables, "mergeHost").mockImplementation((document) =>
      merge(document.node === node ? document : { ...document, capabilities: [] }),
    );
    h1.encryption.silentInIpsec.add("198.18.0.2");
    await everywhere({ encryption: "ipsec" });
    await whole(vteps);
    expect(await answersThrough("ipsec")).toEqual([]);
    expect(await seenFrom1("ipsec")).toEqual(REACHED);
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
    expect(h1.agent.encryption.failure("ipsec")?.message).toBe("policies refused");
    expect(h1.agent.encryption.paths("ipsec")).toBeUndefined();
    kernel.policyFailure = undefined;
    await expect.poll(() => h1.agent.encryption.failure("ipsec"), eventually).toBeUndefined();
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
    await expect.poll(() => next.encryption.paths("ipsec")?.remote.size, eventually).toBe(2);
    expect(await names(h1)).toEqual(before);
    await next.reconciler.settle(record(h1).id);
    expect(applied).not.toHaveBeenCalled();
    await next.stop();
  });
});
