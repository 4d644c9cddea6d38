import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type DesiredNetwork, portLink } from "../../agent/core/data-plane/kernel-state.ts";
import { HeldNetwork } from "../../agent/core/data-plane/held-network.ts";
import { entriesOf, plan } from "../../agent/core/data-plane/plan.ts";
import { LinuxKernel } from "../../agent/kernel/linux-kernel.ts";
import { addressesOf } from "../../shared/documents.ts";
import type { Family, Ip } from "../../shared/ip.ts";
import { linkLocalOf } from "../../shared/mac.ts";
import { VXLAN_OVERHEAD_BYTES } from "../../shared/vxlan.ts";
import {
  app,
  dataPlane,
  endpoint,
  present,
  vtepOf,
  withIpv6,
  withWayOut,
} from "../support/cluster.ts";
import { type HostsOptions, lostDuring, TestHosts } from "../support/hosts.ts";

const own = (k: number) => withIpv6(endpoint(k, 5));

/** Host `k` has container 5; the other host's container 5 is remote. */
function wanted(k: number, remotes = [k === 1 ? 2 : 1], family: Family = 4): DesiredNetwork {
  const { id, mac } = own(k);
  return {
    ...withWayOut(dataPlane(k, family)),
    ports: [{ endpoint: id, mac, ips: addressesOf(own(k)) }],
    remotes: remotes.map((r) => ({
      vtep: vtepOf(r, family),
      members: [{ mac: own(r).mac, ips: addressesOf(own(r)) }],
    })),
  };
}

function ipv4Only(desired: DesiredNetwork): DesiredNetwork {
  const only = <T extends { ips: readonly Ip[] }>(held: T): T => ({
    ...held,
    ips: held.ips.slice(0, 1),
  });
  const { gateways, ports, remotes } = desired;
  return {
    ...desired,
    gateways: gateways.slice(0, 1),
    ports: ports.map(only),
    remotes: remotes.map(({ vtep, members }) => ({ vtep, members: members.map(only) })),
  };
}

let hosts: TestHosts;
let kernels: LinuxKernel[];

beforeEach(() => open());
afterEach(() => close());

function open(options: HostsOptions = {}): void {
  hosts = new TestHosts(2, options);
  kernels = [1, 2].map(
    (k) =>
      new LinuxKernel({
        netnsDirectory: join(hosts.directory, `netns${k}`),
        hostNetns: join(hosts.directory, `h${k}`),
      }),
  );
}

async function close(): Promise<void> {
  for (const kernel of kernels) {
    for (const network of await kernel.list()) await kernel.apply(network, [{ kind: "retract" }]);
    await kernel.close();
  }
  hosts.close();
}

async function reconcile(k: number, desired: DesiredNetwork | undefined): Promise<string[]> {
  const kernel = kernels[k - 1]!;
  const wanted = desired === undefined ? ({ kind: "absent" } as const) : present(desired);
  const steps = plan(new HeldNetwork(await kernel.read(app.id)), wanted);
  await kernel.apply(app.id, steps);
  return steps.map((step) => step.kind);
}

function container(k: number, ipv6 = true): string {
  const link = kernels[k - 1]!.containerLink(endpoint(k, 5).id);
  const addresses = [`${own(k).ipv4!}/16`, ...(ipv6 ? [`${own(k).ipv6!}/64`] : [])];
  return hosts.container(`c${k}`, join(hosts.directory, `h${k}`), link, addresses);
}

const inNetwork = (k: number): string => join(hosts.directory, `netns${k}`, app.id);

describe("the kernel of two hosts", () => {
  test("what was planned is what is read back, and a second pass has nothing to do", async () => {
    expect(await reconcile(1, wanted(1))).toEqual(["extend", "putRemotes", "putPort"]);
    const { network, encryption: _, ports, remotes, flood, ...device } = wanted(1);
    const actual = await kernels[0]!.read(app.id);
    const neighbours = actual.neighbours.toSorted((a, b) => (a.ip < b.ip ? -1 : 1));
    expect({ ...actual, neighbours }).toEqual({
      network,
      present: true,
      unfinishedPorts: [],
      device,
      faults: [],
      ports,
      flood,
      vxlanFdb: entriesOf(remotes).map(({ mac, vtep }) => ({ mac, vtep })),
      bridgeFdb: entriesOf(remotes).map(({ mac }) => mac),
      neighbours: entriesOf(remotes).flatMap(({ mac, ips }) => ips.map((ip) => ({ ip, mac }))),
    });
    expect(await reconcile(1, wanted(1))).toEqual([]);
  });

  test.each([4, 6] as const)(
    "over IPv%i containers reach one another at full MTU in both families, with no flooding",
    async (family) => {
      for (const k of [1, 2]) await reconcile(k, wanted(k, undefined, family));
      const [first] = [1, 2].map((k) => container(k));
      const { mtuBytes } = wanted(1, undefined, family);
      expect(await hosts.ping(first!, own(2).ipv4!, "-s", String(mtuBytes - 28))).toBe(3);
      expect(await hosts.ping(first!, own(2).ipv6!, "-s", String(mtuBytes - 48))).toBe(3);
      // Not before both containers have asked for theirs in vain (RFC 4862, 5.4): a second.
      const linkLocal = `${linkLocalOf(own(2).mac)}%eth0`;
      await expect.poll(() => hosts.ping(first!, linkLocal), { timeout: 20_000 }).toBe(3);
      // No all-zero entry: nothing can have been flooded into the tunnel.
      expect(hosts.in(inNetwork(1), "bridge fdb show dev vx0")).not.toContain("00:00:00:00:00:00");
      for (const gateway of ["10.192.0.1", "fd00:192::1"])
        expect(await hosts.ping(first!, gateway)).toBe(3);
    },
  );

  test.each([1280, 9000])(
    "an underlay of %i bytes carries what is left of it, and not a byte more",
    async (underlay) => {
      await close();
      open({ mtuBytes: underlay });
      const mtuBytes = underlay - VXLAN_OVERHEAD_BYTES[4];
      // Less than 1280 bytes and the kernel has no IPv6 on the link (RFC 8200, 5).
      for (const k of [1, 2]) await reconcile(k, { ...ipv4Only(wanted(k)), mtuBytes });
      const [first] = [1, 2].map((k) => container(k, false));
      const dontFragment = (size: number): Promise<number> =>
        hosts.ping(first!, own(2).ipv4!, "-M", "do", "-s", String(size));
      expect(hosts.in(first!, "ip link show eth0")).toContain(`mtu ${mtuBytes}`);
      expect(await dontFragment(mtuBytes - 28)).toBe(3);
      expect(await dontFragment(mtuBytes - 27)).toBe(0);
    },
  );

  test.each([4, 6] as const)(
    "over IPv%i another VTEP is changed on the device as it stands: entries stay, and no packet is lost",
    async (family) => {
      for (const k of [1, 2]) await reconcile(k, wanted(k, undefined, family));
      const [first] = [1, 2].map((k) => container(k));
      const next = vtepOf(51, family);
      const length = family === 4 ? 32 : 128;
      hosts.in(join(hosts.directory, "h1"), `ip address add ${next}/${length} dev eth0`);
      const index = (): string => hosts.in(inNetwork(1), "ip -o link show vx0").split(":")[0] ?? "";
      const before = index();
      const lost = await lostDuring(first!, own(2).ipv4!, [
        async () => {
          await reconcile(1, { ...wanted(1, undefined, family), localVtep: next });
          // From now on the others let in the new one only.
          const h2 = join(hosts.directory, "h2");
          const from = `${family === 4 ? "ip" : "ip6"} saddr ${vtepOf(1, family)}`;
          hosts.in(h2, "nft add table inet closed");
          hosts.in(h2, "nft add chain inet closed in { type filter hook input priority 0 ; }");
          hosts.in(h2, `nft add rule inet closed in ${from} udp dport 7948 drop`);
        },
      ]);
      expect([index(), lost]).toEqual([before, 0]);
      expect(await reconcile(1, { ...wanted(1, undefined, family), localVtep: next })).toEqual([]);
    },
  );

  test("a host with a smaller underlay is told so by ICMP, not by silence", async () => {
    hosts.in(join(hosts.directory, "h1"), "ip link set eth0 mtu 1400");
    for (const k of [1, 2]) await reconcile(k, wanted(k));
    const [first] = [1, 2].map((k) => container(k));
    const full = String(1450 - 28);
    await hosts.ping(first!, own(2).ipv4!, "-M", "do", "-s", full);
    expect(hosts.in(first!, `ip route get ${own(2).ipv4!}`)).toMatch(/mtu 13\d\d/);
  });

  test("multicast reaches the other host's containers where it is wanted, and only there", async () => {
    const copies = (k: number): DesiredNetwork => ({
      ...wanted(k),
      multicast: true,
      flood: [vtepOf(k === 1 ? 2 : 1)],
    });
    for (const k of [1, 2]) await reconcile(k, wanted(k));
    const [first, second] = [1, 2].map((k) => container(k));
    // Only the other one answers.
    hosts.in(first!, "sysctl -qw net.ipv6.icmp.echo_ignore_multicast=1");
    hosts.in(second!, "sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=0");
    hosts.in(first!, "ip route add 224.0.0.0/4 dev eth0");
    const answers = async (): Promise<number[]> => [
      await hosts.ping(first!, "224.0.0.1"),
      await hosts.ping(first!, "10.192.255.255", "-b"),
      await hosts.ping(first!, "ff02::1%eth0"),
    ];
    expect(await answers()).toEqual([0, 0, 0]);
    for (const k of [1, 2]) expect(await reconcile(k, copies(k))).toContain("putFlood");
    await expect.poll(answers).toEqual([3, 3, 3]);
    expect(await reconcile(1, { ...copies(1), flood: [] })).toEqual(["removeFlood"]);
    expect(await answers()).toEqual([0, 0, 0]);
  });

  test("without the remote entry nothing crosses; with it again, everything", async () => {
    for (const k of [1, 2]) await reconcile(k, wanted(k));
    const [first] = [1, 2].map((k) => container(k));
    expect(await reconcile(1, wanted(1, []))).toEqual(["removeFdb", "removeNeighbours"]);
    expect(await hosts.ping(first!, own(2).ipv4!)).toBe(0);
    expect(await reconcile(1, wanted(1))).toEqual(["putRemotes"]);
    // The container's own failed ARP entry may cost the first.
    await expect.poll(() => hosts.ping(first!, own(2).ipv4!)).toBeGreaterThanOrEqual(1);
  });

  test("a container whose port was deleted gets its interface back, as it was", async () => {
    for (const k of [1, 2]) await reconcile(k, wanted(k));
    const [first] = [1, 2].map((k) => container(k));
    // Another network's interface is in it too, as docker_gwbridge's: it keeps its name.
    hosts.in(first!, "ip link add eth1 type bridge");
    hosts.in(first!, "ip link set eth1 up");
    const shown = (): string =>
      hosts
        .in(first!, "ip -br address show eth0")
        .replaceAll(/@\S+|fe80\S+/g, "")
        .trim();
    const before = shown();
    const [kernel] = kernels as [LinuxKernel];
    expect([...(await kernel.endsHere())]).toEqual([]);
    const { id } = own(1);
    hosts.in(inNetwork(1), `ip link del ${portLink(id)}`);
    expect(await reconcile(1, wanted(1))).toEqual(["putPort"]);
    expect(await hosts.ping(first!, own(2).ipv4!)).toBe(0);
    expect([...(await kernel.endsHere())]).toEqual([kernel.containerLink(id)]);
    const addresses = [
      { ip: own(1).ipv4!, prefixLength: 16 },
      { ip: own(1).ipv6!, prefixLength: 64 },
    ];
    hosts.in(first!, "ip -6 route add default via fd00:192::9 dev eth1 onlink");
    const gateways = wanted(1).gateways.map(({ ip }) => ip);
    await kernel.giveBackEnd(id, first!, addresses, gateways);
    // By the one that it has not: eth1 has its own of the other family.
    expect(hosts.in(first!, "ip route show default")).toContain("via 10.192.0.1 dev eth0");
    expect(hosts.in(first!, "ip -6 route show default")).not.toContain("fd00:192::1 ");
    expect([...(await kernel.endsHere())]).toEqual([]);
    expect(shown()).toBe(before);
    for (const ip of [own(2).ipv4!, own(2).ipv6!])
      await expect.poll(() => hosts.ping(first!, ip)).toBe(3);
  });

  test("a container that changes its MAC gets nothing through", async () => {
    for (const k of [1, 2]) await reconcile(k, wanted(k));
    const [first] = [1, 2].map((k) => container(k));
    expect(await hosts.ping(first!, own(2).ipv4!)).toBe(3);
    hosts.in(first!, "ip link set eth0 address 02:42:0a:c0:01:63");
    expect(await hosts.ping(first!, own(2).ipv4!)).toBe(0);
    hosts.in(first!, `ip link set eth0 address ${endpoint(1, 5).mac}`);
    await expect.poll(() => hosts.ping(first!, own(2).ipv4!)).toBeGreaterThanOrEqual(1);
  });

  test("a container that takes another address of the network gets nothing through", async () => {
    for (const k of [1, 2]) await reconcile(k, wanted(k));
    const [first] = [1, 2].map((k) => container(k));
    for (const [address, length, target] of [
      ["10.192.1.99", 16, own(2).ipv4!],
      ["fd00:192::1:99", 64, own(2).ipv6!],
    ] as const) {
      hosts.in(first!, `ip address add ${address}/${length} dev eth0 nodad`);
      expect(await hosts.ping(first!, target, "-I", address)).toBe(0);
      hosts.in(first!, `ip address del ${address}/${length} dev eth0`);
      await expect.poll(() => hosts.ping(first!, target)).toBe(3);
    }
  });

  test("the host's own end of a port is up with its addresses, and is put again when it is not", async () => {
    const [port] = wanted(1).ports;
    const address = { ip: own(1).ipv4!, prefixLength: 16 };
    const desired = { ...wanted(1), ports: [{ ...port!, host: [address] }] };
    const host = join(hosts.directory, "h1");
    const link = kernels[0]!.containerLink(port!.endpoint);
    expect(await reconcile(1, desired)).toEqual(["extend", "putRemotes", "putPort"]);
    expect(await reconcile(1, desired)).toEqual([]);
    expect(await hosts.ping(host, "10.192.0.1")).toBe(3);
    for (const change of [
      `ip link set ${link} down`,
      `ip address del ${address.ip}/${address.prefixLength} dev ${link}`,
    ]) {
      hosts.in(host, change);
      expect(await reconcile(1, desired)).toEqual(["putPort"]);
      expect(await reconcile(1, desired)).toEqual([]);
    }
  });

  test("what the kernel forgets when the bridge goes down is put back, and nothing else", async () => {
    await reconcile(1, wanted(1));
    hosts.in(inNetwork(1), "ip link set br0 down");
    hosts.in(inNetwork(1), "ip link set br0 up");
    expect(await reconcile(1, wanted(1))).toEqual(["putRemotes"]);
    expect(await reconcile(1, wanted(1))).toEqual([]);
  });

  test("what others take away is told, what we add or replace is not: nothing is read again for it", async () => {
    const kernel = kernels[0]!;
    await reconcile(1, wanted(1));
    let told = 0;
    kernel.onChange(() => told++);
    const [first] = entriesOf(wanted(1).remotes);
    const put = (vtep: Ip): Promise<void> =>
      kernel.apply(app.id, [{ kind: "putRemotes", remotes: [{ ...first!, vtep }] }]);
    const othersTake = (): string =>
      hosts.in(inNetwork(1), `ip neigh del ${first!.ips[0]} dev br0`);
    // Just after devices were made nothing is told.
    await vi.waitFor(async () => {
      await put(first!.vtep);
      othersTake();
      await vi.waitFor(() => expect(told).toBe(1), 1000);
    }, 20_000);
    expect(told).toBe(1);
    for (const vtep of [vtepOf(3), first!.vtep]) await put(vtep);
    othersTake();
    // The kernel tells in order: with this, all before it was told.
    await vi.waitFor(() => expect(told).toBeGreaterThan(1), 20_000);
    expect(told).toBe(2);
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

  test("what the filter still holds of a port that went is taken away, and so is a link without a filter", async () => {
    await reconcile(1, wanted(1));
    const [gone] = wanted(1).ports;
    const without = { ...wanted(1), ports: wanted(1).ports.slice(1) };
    const links = (): string => hosts.in(inNetwork(1), "ip -br link");
    const filter = (): string => hosts.in(inNetwork(1), "nft list table bridge overlay_ts");
    const link = portLink(gone!.endpoint);
    hosts.in(inNetwork(1), `ip link del ${link}`);
    expect(filter()).toContain(link);
    expect(await reconcile(1, without)).toEqual(["removePort"]);
    expect(filter()).not.toContain(link);
    hosts.in(inNetwork(1), `ip link add ${link} type veth peer name other`);
    expect(await reconcile(1, without)).toEqual(["removePort"]);
    expect(links()).not.toContain(link);
    expect(await reconcile(1, without)).toEqual([]);
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
      const held = withIpv6(endpoint(2 + Math.floor(i / 250), 1 + (i % 250)));
      return { mac: held.mac, ips: addressesOf(held) };
    });
    const behind = (members: typeof many) => [{ vtep: vtepOf(2), members }];
    const desired = { ...wanted(1), remotes: behind(many) };
    await reconcile(1, desired);
    const actual = await kernels[0]!.read(app.id);
    expect(actual.vxlanFdb.length).toBe(1000);
    expect(await reconcile(1, desired)).toEqual([]);
    expect(await reconcile(1, { ...desired, remotes: behind(many.slice(0, 10)) })).toEqual([
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
