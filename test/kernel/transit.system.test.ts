// @module-tag never

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { DesiredNetwork } from "../../agent/core/data-plane/kernel-state.ts";
import {
  DEFAULT_TRANSIT_POOL,
  transitOf,
  transitPools,
} from "../../agent/core/data-plane/transit.ts";
import { LinuxEgress } from "../../agent/kernel/egress/linux-egress.ts";
import { Nft } from "../../agent/kernel/nft/nft.ts";
import { LinuxKernel } from "../../agent/kernel/linux-kernel.ts";
import { addressesOf } from "../../shared/documents.ts";
import { NetworkId, Vni } from "../../shared/ids.ts";
import { type Family, Ip } from "../../shared/ip.ts";
import { ruleMac } from "../../shared/mac.ts";
import { app, dataPlane, endpoint, vtepOf, withIpv6 } from "../support/cluster.ts";
import { TestHosts } from "../support/hosts.ts";
import { eventually } from "../support/lab-host.ts";
import { vxlanDatagram } from "../support/vxlan-datagram.ts";

/** h1 forwards, and has containers on two networks with the same subnets; h2 is a member, and h3 is outside. */

const OUTSIDE = { 4: Ip.parse("198.51.100.3"), 6: Ip.parse("2001:db8::3") } as const;
const NETWORKS = [app.id, NetworkId.parse("0b".repeat(16))] as const;
const local = withIpv6(endpoint(1, 5));
const remote = withIpv6(endpoint(2, 5));

let hosts: TestHosts;
let kernel: LinuxKernel;
let egress: LinuxEgress;
const host = (k: number): string => join(hosts.directory, `h${k}`);
const inNetwork = (n: number): string => join(hosts.directory, "netns", NETWORKS[n]!);

function wanted(n: number): DesiredNetwork {
  const transit = transitOf(transitPools(DEFAULT_TRANSIT_POOL), n, [4, 6]);
  const members = [{ mac: remote.mac, ips: addressesOf(remote) }];
  const port = { endpoint: endpointId(n), mac: local.mac, ips: addressesOf(local) };
  const remotes = [{ vtep: vtepOf(2), members }];
  const vni = Vni.parse(256 + n);
  return { ...dataPlane(1), network: NETWORKS[n]!, vni, transit, ports: [port], remotes };
}

const endpointId = (n: number) => endpoint(1, 5 + n).id;

async function extend(n: number): Promise<string> {
  const { ports, ...desired } = wanted(n);
  await kernel.apply(NETWORKS[n]!, [
    { kind: "extend", desired: { ...desired, ports } },
    ...ports.map((port) => ({ kind: "putPort" as const, port })),
    {
      kind: "putRemotes",
      remotes: [{ vtep: vtepOf(2), mac: remote.mac, ips: addressesOf(remote) }],
    },
  ]);
  const link = kernel.containerLink(endpointId(n));
  const addresses = [`${local.ipv4!}/16`, `${local.ipv6!}/64`];
  const netns = hosts.container(`c${n}`, host(1), link, addresses);
  hosts.in(netns, "ip route add default via 10.192.0.1");
  hosts.in(netns, "ip -6 route add default via fd00:192::1");
  return netns;
}

/** Datagrams to port 9 that came to h3, by its kernel. */
function arrived(): number {
  const listed = hosts.in(host(3), "nft list chain inet seen input");
  return Number(/packets (\d+)/.exec(listed)?.[1]);
}

function counter(netns: string, family: string, table: string, name: string): number {
  const listed = hosts.in(netns, `nft list counter ${family} ${table} ${name}`);
  return Number(/packets (\d+)/.exec(listed)?.[1]);
}

/** What a member sends for its own container to the gateway's MAC, which is the same on all hosts. */
function sendToGateway(family: Family): void {
  const from = { mac: remote.mac, ip: family === 4 ? remote.ipv4! : remote.ipv6! };
  const to = { mac: ruleMac(dataPlane(1).gateways[0]!.ip), ip: OUTSIDE[family] };
  const file = join(hosts.directory, "datagram");
  writeFileSync(file, vxlanDatagram(256, from, to, Buffer.from("through h1"), true));
  hosts.in(host(2), `socat -u OPEN:${file} UDP-SENDTO:198.51.100.1:7948`);
}

beforeEach(async () => {
  hosts = new TestHosts(3);
  kernel = new LinuxKernel({ netnsDirectory: join(hosts.directory, "netns"), hostNetns: host(1) });
  egress = new LinuxEgress({ hostNetns: host(1) });
  hosts.in(host(1), "sysctl -qw net.ipv4.ip_forward=1");
  hosts.in(host(1), "sysctl -qw net.ipv6.conf.all.forwarding=1");
  hosts.in(host(3), "nft add table inet seen");
  hosts.in(host(3), "nft add chain inet seen input { type filter hook input priority 0 ; }");
  hosts.in(host(3), "nft add rule inet seen input udp dport 9 counter");
  await egress.set();
});

afterEach(async () => {
  egress.close();
  for (const network of await kernel.list()) await kernel.apply(network, [{ kind: "retract" }]);
  await kernel.close();
  hosts.close();
});

/** From port 4321, answered by what is outside: with the address that it saw. */
async function sourceSeen(netns: string, family: Family, port = 4321): Promise<string> {
  const to = family === 4 ? `TCP4:${OUTSIDE[4]}` : `TCP6:[${OUTSIDE[6]}]`;
  const seen = hosts.in(netns, `socat -t5 -T5 STDIO ${to}:80,sourceport=${port},reuseaddr`).trim();
  return Ip.parse(seen.replaceAll(/[[\]]/g, ""));
}

describe("the way out", () => {
  test("two networks with the same subnets, addresses and ports get out at once, by the host's address", async () => {
    const [first, second] = [await extend(0), await extend(1)];
    expect([egress.blocked(4), egress.blocked(6)]).toEqual([undefined, undefined]);
    const close = hosts.serve(host(3), 80);
    try {
      for (const [family, seen] of [
        [4, "198.51.100.1"],
        [6, "2001:db8::1"],
      ] as const) {
        await eventually(10_000, "an answer", async () => {
          expect(await sourceSeen(first, family)).toBe(seen);
        });
        expect(await sourceSeen(second, family)).toBe(seen);
      }
      for (const netns of [first, second])
        for (const ip of Object.values(OUTSIDE)) expect(await hosts.ping(netns, ip)).toBe(3);
    } finally {
      close();
    }
  });

  test("no network reaches another, nor a container of a bridge, nor what is outside a network", async () => {
    const [first] = [await extend(0), await extend(1)];
    const ends = [0, 1].flatMap((n) => wanted(n).transit!.ends);
    const br = "br-0123456789ab";
    const docker = hosts.netns("docker");
    for (const command of [
      `ip link add ${br} type bridge`,
      `ip link set ${br} up`,
      `ip address add 172.30.0.1/24 dev ${br}`,
      `ip link add veth9 type veth peer name eth0 netns ${docker}`,
      `ip link set veth9 master ${br} up`,
    ])
      hosts.in(host(1), command);
    hosts.in(docker, "ip link set eth0 up");
    hosts.in(docker, "ip address add 172.30.0.2/24 dev eth0");
    hosts.in(docker, "ip route add default via 172.30.0.1");
    // The host's own address there is the host's.
    expect(await hosts.ping(first, "172.30.0.1")).toBe(3);
    hosts.in(host(3), "ip route add 198.18.224.0/19 via 198.51.100.1");
    for (const [netns, address] of [
      [first, "172.30.0.2"],
      [first, ends[2]!.inside],
      [host(3), ends[0]!.inside],
    ] as const) {
      const before = counter(host(1), "inet", "overlay_ts_egress", "unpublished");
      expect(await hosts.ping(netns, address), address).toBe(0);
      const dropped = counter(host(1), "inet", "overlay_ts_egress", "unpublished") - before;
      expect(dropped, address).toBeGreaterThan(0);
    }
    // Published it is reached, as from elsewhere.
    hosts.in(host(1), "nft add table ip published");
    hosts.in(
      host(1),
      "nft add chain ip published in { type nat hook prerouting priority dstnat ; }",
    );
    hosts.in(
      host(1),
      "nft add rule ip published in ip daddr 198.51.100.1 tcp dport 8080 dnat to 172.30.0.2:80",
    );
    const close = hosts.serve(docker, 80);
    try {
      await eventually(10_000, "an answer", async () => {
        const command = "socat -t5 -T5 STDIO TCP4:198.51.100.1:8080";
        expect(hosts.in(first, command)).toContain("172.30.0.1");
      });
    } finally {
      close();
    }
  });

  test.each([4, 6] as const)(
    "no member is routed over IPv%i: dropped at the bridge, and again where it would be forwarded",
    async (family) => {
      await extend(0);
      const netns = inNetwork(0);
      sendToGateway(family);
      await eventually(10_000, "the count", async () => {
        const dropped = counter(netns, "bridge", "overlay_ts", "routedForOthers");
        expect(dropped).toBeGreaterThan(0);
      });
      hosts.in(netns, "nft flush chain bridge overlay_ts input");
      const before = counter(netns, "inet", "overlay_ts", "notRouted");
      sendToGateway(family);
      await eventually(10_000, "the count", async () => {
        expect(counter(netns, "inet", "overlay_ts", "notRouted")).toBeGreaterThan(before);
      });
      expect(arrived()).toBe(0);
      // Without both it gets out: the test can see it.
      hosts.in(netns, "nft insert rule inet overlay_ts forward accept");
      await eventually(10_000, "its arrival", async () => {
        sendToGateway(family);
        expect(arrived()).toBeGreaterThan(0);
      });
    },
  );

  test("a network without IPv6 forwards IPv4 alone, and one without a way out nothing", async () => {
    const forwards = (): string[] =>
      ["ipv4.ip_forward", "ipv6.conf.all.forwarding"].map((name) =>
        hosts.in(inNetwork(0), `sysctl -n net.${name}`).trim(),
      );
    const { gateways, ...desired } = wanted(0);
    const pools = transitPools(DEFAULT_TRANSIT_POOL);
    for (const [families, forwarding] of [
      [[4], ["1", "0"]],
      [
        [4, 6],
        ["1", "1"],
      ],
      [undefined, ["0", "0"]],
    ] as const) {
      const transit = families && transitOf(pools, 0, families);
      const of = { ...desired, gateways: gateways.slice(0, families?.length ?? 1), transit };
      await kernel.apply(app.id, [{ kind: "extend", desired: of }]);
      expect(forwards()).toEqual(forwarding);
      expect((await kernel.read(app.id)).faults).toEqual([]);
    }
  });

  test("an exposed host has no way out by a network", async () => {
    await extend(0);
    const host = { ip: Ip.parse("10.192.1.9"), prefixLength: 16 };
    const port = { endpoint: endpoint(1, 9).id, mac: ruleMac(host.ip), ips: [host.ip] };
    await kernel.apply(app.id, [{ kind: "putPort", port: { ...port, host: [host] } }]);
    const h1 = join(hosts.directory, "h1");
    const link = kernel.containerLink(port.endpoint);
    hosts.in(h1, `ip route add 203.0.113.0/24 via 10.192.0.1 dev ${link}`);
    const before = counter(inNetwork(0), "inet", "overlay_ts", "notRouted");
    expect(await hosts.ping(h1, "203.0.113.1", "-I", "10.192.1.9")).toBe(0);
    expect(counter(inNetwork(0), "inet", "overlay_ts", "notRouted")).toBeGreaterThan(before);
  });

  test("what conntrack does not track, as neighbour discovery, does not leave by a container's own address", async () => {
    const netns = await extend(0);
    hosts.in(host(3), "nft add chain inet seen asked { type filter hook input priority 1 ; }");
    hosts.in(host(3), `nft add rule inet seen asked ip6 saddr ${local.ipv6!} counter`);
    const untranslated = (): number =>
      Number(/packets (\d+)/.exec(hosts.in(host(3), "nft list chain inet seen asked"))?.[1]);
    const file = join(hosts.directory, "solicitation");
    writeFileSync(file, Buffer.from([133, 0, 0, 0, 0, 0, 0, 0]));
    const send = () => hosts.in(netns, `socat -u OPEN:${file} IP6-SENDTO:[${OUTSIDE[6]}]:58`);
    // So that the neighbours know each other: for a source that is not its own the namespace does not ask.
    await eventually(10_000, "a ping's answer", async () => {
      expect(await hosts.ping(netns, OUTSIDE[6])).toBe(3);
    });
    await eventually(10_000, "the network's count", async () => {
      send();
      expect(counter(inNetwork(0), "inet", "overlay_ts", "notRouted")).toBeGreaterThan(0);
    });
    hosts.in(inNetwork(0), "nft insert rule inet overlay_ts forward accept");
    await eventually(10_000, "the host's count", async () => {
      send();
      expect(counter(host(1), "inet", "overlay_ts_egress", "invalid")).toBeGreaterThan(0);
    });
    expect(untranslated()).toBe(0);
    // Without both it gets out: the test can see it.
    hosts.in(host(1), "nft flush chain inet overlay_ts_egress leaving");
    await eventually(10_000, "its arrival", async () => {
      send();
      expect(untranslated()).toBeGreaterThan(0);
    });
  });

  test("a network's own subnet never leaves by it, whatever becomes of its routes", async () => {
    const netns = await extend(0);
    const peer = remote.ipv4!;
    hosts.in(host(3), `ip address add ${peer}/32 dev eth0`);
    hosts.in(host(1), `ip route add ${peer}/32 via ${OUTSIDE[4]}`);
    hosts.in(netns, "ip route replace 10.192.0.0/16 via 10.192.0.1 dev eth0 onlink");
    const send = (): string =>
      hosts.in(netns, `socat -u EXEC:true UDP4-SENDTO:${peer}:9,sourceport=9`);
    const inside = inNetwork(0);
    for (const change of [
      "ip route del 10.192.0.0/16 dev br0",
      "ip route del unreachable 10.192.0.0/16",
      `ip route add ${peer}/32 dev tr0 via ${wanted(0).transit!.ends[0]!.outside}`,
    ]) {
      hosts.in(inside, change);
      for (let i = 0; i < 3; i++) send();
    }
    const datagram = `socat -u OPEN:${join(hosts.directory, "datagram")} UDP4-SENDTO:${peer}:9`;
    writeFileSync(join(hosts.directory, "datagram"), "in clear");
    hosts.in(netns, datagram);
    await eventually(10_000, "the count", async () => {
      expect(counter(inside, "inet", "overlay_ts", "notRouted")).toBeGreaterThan(0);
    });
    expect(arrived()).toBe(0);
    hosts.in(inside, "nft insert rule inet overlay_ts forward accept");
    await eventually(10_000, "its arrival", async () => {
      hosts.in(netns, datagram);
      expect(arrived()).toBeGreaterThan(0);
    });
  });

  test("what Docker drops is let through in the chain that it leaves for that, behind its user's rules, again after a flush", async () => {
    const netns = await extend(0);
    for (const rule of [
      "-N DOCKER-USER",
      "-A DOCKER-USER -d 203.0.113.7/32 -j DROP",
      "-A DOCKER-USER -j RETURN",
      "-A FORWARD -j DOCKER-USER",
      "-P FORWARD DROP",
    ])
      hosts.in(host(1), `iptables ${rule}`);
    expect(await hosts.ping(netns, OUTSIDE[4])).toBe(0);
    let told = 0;
    egress.onChange(() => told++);
    await egress.set();
    expect(egress.blocked(4)).toBeUndefined();
    expect(await hosts.ping(netns, OUTSIDE[4])).toBe(3);
    const chain = (): string[] => hosts.in(host(1), "iptables -S DOCKER-USER").trim().split("\n");
    const written = chain();
    expect(written[1]).toContain("203.0.113.7");
    expect(written.at(-1)).toBe("-A DOCKER-USER -j RETURN");
    expect(written).toHaveLength(5);
    await egress.set();
    expect(chain()).toEqual(written);
    for (const flush of ["iptables -F DOCKER-USER", "nft delete table inet overlay_ts_egress"]) {
      const before = told;
      hosts.in(host(1), flush);
      await eventually(10_000, `news of ${flush}`, async () =>
        expect(told).toBeGreaterThan(before),
      );
      await egress.set();
      expect(await egress.faults()).toEqual([]);
      expect(await hosts.ping(netns, OUTSIDE[4])).toBe(3);
    }
    hosts.in(host(1), "iptables -F FORWARD");
    await egress.set();
    expect(egress.blocked(4)).toMatchObject({ code: "UNSUPPORTED" });
    await egress.remove();
    expect(chain()).toEqual(["-N DOCKER-USER"]);
  });

  test("what is told while the rules are looked at is looked for with the next time", async () => {
    const looked = vi.spyOn(Nft.prototype, "smallForm");
    try {
      const looking = egress.set();
      egress.recheck();
      await looking;
      looked.mockClear();
      await egress.set();
      expect(looked).toHaveBeenCalledTimes(1);
    } finally {
      looked.mockRestore();
    }
  });

  test("a host that does not forward, and a chain of somebody else's that drops, are named", async () => {
    hosts.in(host(1), "sysctl -qw net.ipv6.conf.all.forwarding=0");
    await egress.set();
    expect([egress.blocked(4), egress.blocked(6)?.message]).toEqual([
      undefined,
      "this host does not forward IPv6",
    ]);
    hosts.in(host(1), "nft add table inet mine");
    hosts.in(
      host(1),
      "nft add chain inet mine ahead { type filter hook forward priority 0 ; policy drop ; }",
    );
    await egress.set();
    expect(egress.blocked(4)?.message).toContain("chain ahead of nftables' table inet mine");
    hosts.in(host(1), "nft add table inet firewalld");
    hosts.in(
      host(1),
      "nft add chain inet firewalld filter_FORWARD { type filter hook forward priority 10 ; }",
    );
    await egress.set();
    expect(egress.blocked(4)).toMatchObject({ next: expect.stringContaining("firewall-cmd") });
  });
});
