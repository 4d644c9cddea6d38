import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DesiredNetwork } from "../../agent/core/data-plane.ts";
import { plan } from "../../agent/core/plan.ts";
import { LinuxKernel } from "../../agent/kernel/linux-kernel.ts";
import { Ip } from "../../shared/ip.ts";
import { app, endpoint } from "../support/cluster.ts";
import { TestHosts } from "../support/hosts.ts";

/** Host `k` has container 5; the other host's container 5 is remote. */
function wanted(k: number, remotes = [k === 1 ? 2 : 1]): DesiredNetwork {
  const local = endpoint(k, 5);
  return {
    network: app.id,
    vni: app.vni,
    udpPort: 7948,
    localVtep: Ip.parse(`198.51.100.${k}`),
    mtuBytes: 1450,
    gateways: [{ ip: app.subnets[0]!.gateway, prefixLength: 16 }],
    ports: [{ endpoint: local.id, mac: local.mac, ips: [local.ipv4!] }],
    remotes: remotes.map((r) => ({
      mac: endpoint(r, 5).mac,
      vtep: Ip.parse(`198.51.100.${r}`),
      ips: [endpoint(r, 5).ipv4!],
    })),
  };
}

let hosts: TestHosts;
let kernels: LinuxKernel[];

beforeEach(() => {
  hosts = new TestHosts(2);
  kernels = [1, 2].map(
    (k) =>
      new LinuxKernel({
        netnsDirectory: join(hosts.directory, `netns${k}`),
        hostNetns: join(hosts.directory, `h${k}`),
      }),
  );
});

afterEach(async () => {
  for (const kernel of kernels) {
    for (const network of await kernel.list()) await kernel.apply(network, [{ kind: "retract" }]);
    await kernel.close();
  }
  hosts.close();
});

async function reconcile(k: number, desired: DesiredNetwork | undefined): Promise<string[]> {
  const kernel = kernels[k - 1]!;
  const steps = plan(await kernel.read(app.id), desired, true);
  await kernel.apply(app.id, steps);
  return steps.map((step) => step.kind);
}

/** What Docker does with the link it is given: into the container, named, addressed, up. */
function container(k: number): string {
  const netns = hosts.netns(`c${k}`);
  const link = kernels[k - 1]!.containerLink(endpoint(k, 5).id);
  hosts.in(join(hosts.directory, `h${k}`), `ip link set ${link} netns ${netns} name eth0`);
  hosts.in(netns, "ip link set lo up");
  hosts.in(netns, "ip link set eth0 up");
  hosts.in(netns, `ip address add ${endpoint(k, 5).ipv4!}/16 dev eth0`);
  return netns;
}

const inNetwork = (k: number): string => join(hosts.directory, `netns${k}`, app.id);

describe("the kernel of two hosts", () => {
  test("what was planned is what is read back, and a second pass has nothing to do", async () => {
    expect(await reconcile(1, wanted(1))).toEqual(["extend", "putRemotes", "putPort"]);
    const { network, vni, udpPort, localVtep, mtuBytes, gateways, ports, remotes } = wanted(1);
    expect(await kernels[0]!.read(app.id)).toEqual({
      network,
      present: true,
      device: { vni, udpPort, localVtep, mtuBytes, gateways },
      ports,
      vxlanFdb: remotes.map(({ mac, vtep }) => ({ mac, vtep })),
      bridgeFdb: remotes.map(({ mac }) => mac),
      neighbours: remotes.map(({ mac, ips }) => ({ ip: ips[0], mac })),
    });
    expect(await reconcile(1, wanted(1))).toEqual([]);
  });

  test("containers reach one another at full MTU, with no ARP between the hosts", async () => {
    for (const k of [1, 2]) await reconcile(k, wanted(k));
    const [first] = [1, 2].map((k) => container(k));
    expect(await hosts.ping(first!, "10.192.2.5", "-s", String(1450 - 28))).toBe(3);
    // Neither bridge flooded anything into the tunnel: no all-zero entry, so nothing can leave.
    expect(hosts.in(inNetwork(1), "bridge fdb show dev vx0")).not.toContain("00:00:00:00:00:00");
    expect(await hosts.ping(first!, "10.192.0.1")).toBe(3);
  });

  test("without the remote entry nothing crosses; with it again, everything", async () => {
    for (const k of [1, 2]) await reconcile(k, wanted(k));
    const [first] = [1, 2].map((k) => container(k));
    expect(await reconcile(1, wanted(1, []))).toEqual(["removeFdb", "removeNeighbours"]);
    expect(await hosts.ping(first!, "10.192.2.5")).toBe(0);
    expect(await reconcile(1, wanted(1))).toEqual(["putRemotes"]);
    // The container's own failed ARP entry may cost the first.
    expect(await hosts.ping(first!, "10.192.2.5")).toBeGreaterThanOrEqual(1);
  });

  test("a container that changes its MAC gets nothing through", async () => {
    for (const k of [1, 2]) await reconcile(k, wanted(k));
    const [first] = [1, 2].map((k) => container(k));
    expect(await hosts.ping(first!, "10.192.2.5")).toBe(3);
    hosts.in(first!, "ip link set eth0 address 02:42:0a:c0:01:63");
    expect(await hosts.ping(first!, "10.192.2.5")).toBe(0);
    hosts.in(first!, `ip link set eth0 address ${endpoint(1, 5).mac}`);
    expect(await hosts.ping(first!, "10.192.2.5")).toBeGreaterThanOrEqual(1);
  });

  test("what the kernel forgets when the bridge goes down is put back, and nothing else", async () => {
    await reconcile(1, wanted(1));
    hosts.in(inNetwork(1), "ip link set br0 down");
    hosts.in(inNetwork(1), "ip link set br0 up");
    expect(await reconcile(1, wanted(1))).toEqual(["putRemotes"]);
    expect(await reconcile(1, wanted(1))).toEqual([]);
  });

  test("another agent process adopts what stands, by the kernel alone", async () => {
    await reconcile(1, wanted(1));
    await kernels[0]!.close();
    kernels[0] = new LinuxKernel({
      netnsDirectory: join(hosts.directory, "netns1"),
      hostNetns: join(hosts.directory, "h1"),
    });
    expect(await kernels[0].list()).toEqual([app.id]);
    expect(await reconcile(1, wanted(1))).toEqual([]);
  });

  test("the VXLAN device neither learns nor floods, and its port is guarded by no learning", async () => {
    await reconcile(1, wanted(1));
    const vxlan = hosts.in(inNetwork(1), "ip -d link show vx0");
    for (const flag of [
      "nolearning",
      "learning off",
      "flood off",
      "mcast_flood off",
      "bcast_flood off",
      "neigh_suppress on",
      "df set",
    ])
      expect(vxlan).toContain(flag);
    const port = hosts.in(inNetwork(1), "ip -d link show type veth");
    for (const flag of ["learning off", "flood off", "locked on"]) expect(port).toContain(flag);
    expect(hosts.in(inNetwork(1), "sysctl -n net.ipv6.conf.default.accept_ra").trim()).toBe("0");
  });

  test("the last one out leaves no namespace, no link, no pin", async () => {
    await reconcile(1, wanted(1));
    expect(await reconcile(1, undefined)).toEqual(["retract"]);
    expect(await kernels[0]!.list()).toEqual([]);
    expect(readdirSync(join(hosts.directory, "netns1"))).toEqual([]);
    expect(hosts.in(join(hosts.directory, "h1"), "ip -br link")).not.toContain("ovc");
    expect(await reconcile(1, undefined)).toEqual([]);
  });

  test("a thousand remotes in one pass, read back entry for entry", async () => {
    const many = Array.from({ length: 1000 }, (_, i) => {
      const ip = Ip.parse(`10.192.${2 + Math.floor(i / 250)}.${1 + (i % 250)}`);
      return {
        mac: endpoint(2 + Math.floor(i / 250), 1 + (i % 250)).mac,
        vtep: Ip.parse("198.51.100.2"),
        ips: [ip],
      };
    });
    const desired = { ...wanted(1), remotes: many };
    await reconcile(1, desired);
    const actual = await kernels[0]!.read(app.id);
    expect(actual.vxlanFdb.length).toBe(1000);
    expect(await reconcile(1, desired)).toEqual([]);
    expect(await reconcile(1, { ...desired, remotes: many.slice(0, 10) })).toEqual([
      "removeFdb",
      "removeNeighbours",
    ]);
    expect((await kernels[0]!.read(app.id)).bridgeFdb.length).toBe(10);
  });

  test("a step the kernel refuses names the operation and the kernel's reason", async () => {
    await reconcile(1, wanted(1));
    const other = { ...wanted(1), network: "0b".repeat(16) as typeof app.id };
    const kernel = kernels[0]!;
    await expect(
      kernel.apply(other.network, [{ kind: "putRemotes", remotes: [] }]),
    ).rejects.toMatchObject({
      code: "NETLINK",
      errno: "ENODEV",
    });
    // The same VNI and port twice on one host cannot be.
    await expect(
      kernel.apply(other.network, [{ kind: "extend", desired: other }]),
    ).rejects.toMatchObject({
      op: "RTM_NEWLINK vxlan vx0 vni 256",
      errno: "EEXIST",
    });
  });
});
