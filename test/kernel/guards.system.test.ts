import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { DesiredGuards } from "../../agent/core/data-plane.ts";
import { LinuxKernel } from "../../agent/kernel/linux-kernel.ts";
import { NftGuards } from "../../agent/kernel/nft-guards.ts";
import { addressesOf, type Endpoint } from "../../shared/documents.ts";
import { type Family, Ip, ipToBytes } from "../../shared/ip.ts";
import { linkLocalOf, macToBytes, type Mac } from "../../shared/mac.ts";
import { app, dataPlane, endpoint, vtepOf, withIpv6 } from "../support/cluster.ts";
import { TestHosts } from "../support/hosts.ts";

/** h1 has a container of the network behind its guards; h2 may speak to it, h3 is a stranger. */

const PORT = 7948;
const local = withIpv6(endpoint(1, 5));
const remote = withIpv6(endpoint(2, 5));

function desiredOver(family: Family): DesiredGuards {
  const vtep = vtepOf(2, family);
  return {
    underlayFamily: family,
    classPorts: { plain: PORT, wireguard: 7949, ipsec: 7950 },
    ipsec: false,
    vteps: [vtep],
    hosting: [{ vtep, vni: app.vni }],
    speakers: addressesOf(remote).map((ip) => ({ vtep, vni: app.vni, mac: remote.mac, ip })),
  };
}

let hosts: TestHosts;
let kernel: LinuxKernel;
let guards: NftGuards;
let container: string;

const host = (k: number): string => join(hosts.directory, `h${k}`);

let family: Family;
let desired: DesiredGuards;

async function open(over: Family): Promise<void> {
  family = over;
  desired = desiredOver(over);
  hosts = new TestHosts(3);
  kernel = new LinuxKernel({ netnsDirectory: join(hosts.directory, "netns"), hostNetns: host(1) });
  guards = new NftGuards({ hostNetns: host(1) });
  await guards.set(desired);
  const quiet = dataPlane(1, over);
  await kernel.apply(app.id, [
    // Quiet: a gateway's IPv6 address would be told to the containers (MLD), and be counted.
    { kind: "extend", desired: { ...quiet, gateways: quiet.gateways.slice(0, 1) } },
    {
      kind: "putRemotes",
      remotes: [{ mac: remote.mac, vtep: vtepOf(2, over), ips: addressesOf(remote) }],
    },
    { kind: "putPort", port: { endpoint: local.id, mac: local.mac, ips: addressesOf(local) } },
  ]);
  container = hosts.netns("c1");
  const link = kernel.containerLink(local.id);
  hosts.in(host(1), `ip link set ${link} netns ${container} name eth0`);
  // Quiet: what is counted is what the test sends.
  hosts.in(container, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
  hosts.in(container, "ip link set eth0 up");
  hosts.in(container, `ip address add ${local.ipv4!}/16 dev eth0`);
}

afterEach(async () => {
  await guards.close();
  await kernel.apply(app.id, [{ kind: "retract" }]);
  await kernel.close();
  hosts.close();
});

type Kind = "ip" | "arp" | "ip6" | "advert" | "routerAdvert" | "hiddenAdvert";

/** An Ethernet frame of that kind, from `mac` and its address, in VXLAN (RFC 7348). */
function frame(vni: number, { mac, ipv4, ipv6 }: Endpoint, kind: Kind): Buffer {
  const vxlan = Buffer.alloc(8);
  vxlan.writeUInt8(8, 0);
  vxlan.writeUIntBE(vni, 4, 3);
  const bodies: Record<Kind, [string, () => Buffer]> = {
    ip: ["0800", () => packet(ipv4!, local.ipv4!)],
    arp: ["0806", () => arp(mac, ipv4!)],
    ip6: ["86dd", () => packet6(ipv6!, 17, Buffer.alloc(8))],
    advert: ["86dd", () => packet6(ipv6!, 58, neighbourAdvert(ipv6!))],
    routerAdvert: ["86dd", () => packet6(ipv6!, 58, icmp6(134))],
    // Behind a hop-by-hop header of padding (RFC 8200, 4.3).
    hiddenAdvert: [
      "86dd",
      () => packet6(ipv6!, 0, Buffer.concat([Buffer.from("3a00010400000000", "hex"), icmp6(136)])),
    ],
  };
  const [type, body] = bodies[kind];
  return Buffer.concat([
    vxlan,
    macToBytes(local.mac),
    macToBytes(mac),
    Buffer.from(type, "hex"),
    body(),
  ]);
}

function packet(from: Ip, to: Ip): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt8(0x45, 0);
  header.writeUInt16BE(28, 2);
  header.writeUInt8(64, 8);
  header.writeUInt8(17, 9);
  header.set(ipToBytes(from), 12);
  header.set(ipToBytes(to), 16);
  header.writeUInt16BE(8, 24);
  return header;
}

function packet6(from: Ip, nextHeader: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(payload.length, 4);
  header.writeUInt8(nextHeader, 6);
  header.writeUInt8(255, 7);
  header.set(ipToBytes(from), 8);
  header.set(ipToBytes(local.ipv6!), 24);
  return Buffer.concat([header, payload]);
}

function icmp6(type: number): Buffer {
  const message = Buffer.alloc(24);
  message.writeUInt8(type, 0);
  return message;
}

/** RFC 4861, 4.4. */
function neighbourAdvert(target: Ip): Buffer {
  const message = icmp6(136);
  message.set(ipToBytes(target), 8);
  return message;
}

function arp(mac: Mac, ip: Ip): Buffer {
  const target = Buffer.alloc(6);
  return Buffer.concat([
    Buffer.from("0001080006040001", "hex"),
    macToBytes(mac),
    ipToBytes(ip),
    target,
    ipToBytes(local.ipv4!),
  ]);
}

function send(from: string, bytes: Buffer): void {
  const file = join(hosts.directory, "datagram");
  writeFileSync(file, bytes);
  hosts.in(from, `socat -u OPEN:${file} ${udpTo(PORT)}`);
}

function udpTo(port: number): string {
  return family === 4
    ? `UDP-SENDTO:${vtepOf(1, 4)}:${port}`
    : `UDP6-SENDTO:[${vtepOf(1, 6)}]:${port}`;
}

function received(): number {
  const text = hosts.in(container, "ip -s -j link show dev eth0");
  return (
    (JSON.parse(text) as { stats64: { rx: { packets: number } } }[])[0]?.stats64.rx.packets ?? 0
  );
}

/** What of `bytes` arrived in the container, and why what did not was dropped. */
async function outcome(from: string, bytes: Buffer) {
  const [packets, before] = [received(), await guards.counters()];
  send(from, bytes);
  const after = await guards.counters();
  const why = Object.keys(after).filter((name) => after[name] !== before[name]);
  return { arrived: received() - packets, why };
}

const from = (endpoint: Endpoint, kind: Kind = "ip"): Buffer => frame(app.vni, endpoint, kind);

describe.each([4, 6] as const)("the guards of a host whose underlay is IPv%i", (over) => {
  beforeEach(() => open(over));

  test("let in what a member says of its own containers, and count nothing", async () => {
    for (const kind of ["ip", "arp", "ip6", "advert"] as const)
      expect(await outcome(host(2), from(remote, kind))).toEqual({ arrived: 1, why: [] });
    const linkLocal = { ...remote, ipv6: linkLocalOf(remote.mac) };
    expect(await outcome(host(2), from(linkLocal, "ip6"))).toEqual({ arrived: 1, why: [] });
  });

  test("drop a stranger's frames, whatever they say", async () => {
    expect(await outcome(host(3), from(remote))).toEqual({ arrived: 0, why: ["stranger"] });
  });

  test("drop a network that the member does not host", async () => {
    await guards.set({ ...desired, hosting: [] });
    expect(await outcome(host(2), from(remote))).toEqual({ arrived: 0, why: ["notHosting"] });
  });

  test("drop who speaks for another's container, by MAC, by address, and in ARP", async () => {
    const other = withIpv6(endpoint(3, 7));
    const none = { arrived: 0, why: ["notSpeaker"] };
    for (const kind of ["ip", "arp", "ip6", "advert"] as const) {
      expect(await outcome(host(2), from({ ...remote, mac: other.mac }, kind))).toEqual(none);
      const { ipv4, ipv6 } = other;
      expect(await outcome(host(2), from({ ...remote, ipv4, ipv6 }, kind))).toEqual(none);
    }
  });

  test("drop an advertisement for another's address from one's own, hidden or not, and routers", async () => {
    const none = { arrived: 0, why: ["notSpeaker"] };
    const victim = withIpv6(endpoint(3, 7)).ipv6!;
    const lie = frame(app.vni, remote, "advert");
    lie.set(ipToBytes(victim), lie.length - 16);
    expect(await outcome(host(2), lie)).toEqual(none);
    for (const kind of ["hiddenAdvert", "routerAdvert"] as const)
      expect(await outcome(host(2), from(remote, kind))).toEqual(none);
  });

  test("drop what comes in the ports of classes that are not in use", async () => {
    const file = join(hosts.directory, "datagram");
    writeFileSync(file, from(remote));
    const before = await guards.counters();
    hosts.in(host(2), `socat -u OPEN:${file} ${udpTo(7950)}`);
    const after = await guards.counters();
    expect(after["unusedClass"]).toBe((before["unusedClass"] ?? 0) + 1);
  });

  test("stop a container with a way out from posing as its host, on that host", async () => {
    const inside = hosts.netns("c2");
    const own = new NftGuards({ hostNetns: host(2) });
    await own.set({ ...desired, vteps: [vtepOf(1, over)], hosting: [], speakers: [] });
    const [gateway, address, length, table, forwarding] =
      over === 4
        ? ["172.31.9.1", "172.31.9.2", 24, "ip", "net.ipv4.ip_forward"]
        : ["fd00:9::1", "fd00:9::2", 64, "ip6", "net.ipv6.conf.all.forwarding"];
    for (const command of [
      `ip link add egress type veth peer name eth0 netns ${inside}`,
      "ip link set egress up",
      `ip address add ${gateway}/${length} dev egress${over === 6 ? " nodad" : ""}`,
      `sysctl -qw ${forwarding}=1`,
      `nft add table ${table} nat`,
      `nft add chain ${table} nat post { type nat hook postrouting priority 100 ; }`,
      `nft add rule ${table} nat post oifname eth0 masquerade`,
    ])
      hosts.in(host(2), command);
    for (const command of [
      "ip link set eth0 up",
      `ip address add ${address}/${length} dev eth0${over === 6 ? " nodad" : ""}`,
      `ip -${over} route add default via ${gateway}`,
    ])
      hosts.in(inside, command);
    expect(await outcome(inside, from(remote))).toEqual({ arrived: 0, why: [] });
    expect(await own.counters()).toMatchObject({ forwarded: 1 });
    // Without them it would have arrived: the test can fail.
    await own.remove();
    expect(await outcome(inside, from(remote))).toMatchObject({ arrived: 1 });
  });

  test("are put back when somebody deletes or empties them", async () => {
    const told: string[] = [];
    guards.onTamper(() => told.push("tampered"));
    expect(await guards.verify()).toBe(true);
    await expect
      .poll(() => {
        hosts.in(host(1), "nft delete table inet overlay_ts");
        hosts.in(host(1), "nft add table inet overlay_ts");
        return told.length;
      })
      .toBeGreaterThan(0);
    expect(await guards.verify()).toBe(false);
    await guards.set(desired);
    expect(await guards.verify()).toBe(true);
    hosts.in(host(1), "nft flush chain inet overlay_ts plain");
    expect(await guards.verify()).toBe(false);
    await guards.set(desired);
    expect(await guards.verify()).toBe(true);
    expect(await outcome(host(3), from(remote))).toEqual({ arrived: 0, why: ["stranger"] });
  });

  test("that are told of and are as they were written are not tampered with", async () => {
    await guards.set(desired);
    const told: string[] = [];
    guards.onTamper(() => told.push("tampered"));
    const compared = vi.spyOn(guards, "verify");
    const same = new NftGuards({ hostNetns: host(1) });
    try {
      await expect
        .poll(
          async () => {
            await same.remove();
            await same.set(desired);
            return compared.mock.results.length;
          },
          { timeout: 20_000 },
        )
        .toBeGreaterThan(0);
      // It listens by now.
      await guards.verify();
      await guards.set(desired);
      expect(await guards.verify()).toBe(true);
      compared.mockClear();
      told.length = 0;
      // In one transaction: there is no moment without them. Again, for what is told right after our own
      // writes is not looked at.
      const both = "nft add chain inet overlay_ts somebody; delete chain inet overlay_ts somebody";
      await expect
        .poll(() => {
          hosts.in(host(1), both);
          return compared.mock.results.length;
        })
        .toBeGreaterThan(0);
      await guards.verify();
      expect(told).toEqual([]);
    } finally {
      compared.mockRestore();
      await same.close();
    }
  });

  test("follow thousands of containers by difference", async () => {
    const speakers = Array.from({ length: 5000 }, (_, i) => {
      const ip = Ip.parse(`10.192.${2 + (i >> 8)}.${i & 255}`);
      return { vtep: vtepOf(2, over), vni: app.vni, mac: remote.mac, ip };
    });
    await guards.set({ ...desired, speakers });
    expect(await guards.verify()).toBe(true);
    await guards.set({ ...desired, speakers: speakers.slice(10) });
    expect(await guards.verify()).toBe(true);
    expect(await outcome(host(2), from({ ...remote, ipv4: speakers[3]!.ip }))).toEqual({
      arrived: 0,
      why: ["notSpeaker"],
    });
  });
});
