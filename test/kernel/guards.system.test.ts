import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DesiredGuards } from "../../agent/core/data-plane.ts";
import { LinuxKernel } from "../../agent/kernel/linux-kernel.ts";
import { NftGuards } from "../../agent/kernel/nft-guards.ts";
import { type Endpoint } from "../../shared/documents.ts";
import { Ip, ipToBytes } from "../../shared/ip.ts";
import { macToBytes, type Mac } from "../../shared/mac.ts";
import { app, endpoint } from "../support/cluster.ts";
import { TestHosts } from "../support/hosts.ts";

/** h1 has a container of the network behind its guards; h2 may speak to it, h3 is a stranger. */

const PORT = 7948;
const local = endpoint(1, 5);
const remote = endpoint(2, 5);
const vtep = (k: number): Ip => Ip.parse(`198.51.100.${k}`);

const desired: DesiredGuards = {
  classPorts: { plain: PORT, wireguard: 7949, ipsec: 7950 },
  vteps: [vtep(2)],
  hosting: [{ vtep: vtep(2), vni: app.vni }],
  speakers: [{ vtep: vtep(2), vni: app.vni, mac: remote.mac, ip: remote.ipv4! }],
};

let hosts: TestHosts;
let kernel: LinuxKernel;
let guards: NftGuards;
let container: string;

const host = (k: number): string => join(hosts.directory, `h${k}`);

beforeEach(async () => {
  hosts = new TestHosts(3);
  kernel = new LinuxKernel({ netnsDirectory: join(hosts.directory, "netns"), hostNetns: host(1) });
  guards = new NftGuards({ hostNetns: host(1) });
  await guards.set(desired);
  const wanted = {
    network: app.id,
    vni: app.vni,
    udpPort: PORT,
    localVtep: vtep(1),
    mtuBytes: 1450,
    gateways: [{ ip: app.subnets[0]!.gateway, prefixLength: 16 }],
    ports: [],
    remotes: [],
  };
  await kernel.apply(app.id, [
    { kind: "extend", desired: wanted },
    { kind: "putRemotes", remotes: [{ mac: remote.mac, vtep: vtep(2), ips: [remote.ipv4!] }] },
    { kind: "putPort", port: { endpoint: local.id, mac: local.mac, ips: [local.ipv4!] } },
  ]);
  container = hosts.netns("c1");
  const link = kernel.containerLink(local.id);
  hosts.in(host(1), `ip link set ${link} netns ${container} name eth0`);
  hosts.in(container, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
  hosts.in(container, "ip link set eth0 up");
  hosts.in(container, `ip address add ${local.ipv4!}/16 dev eth0`);
});

afterEach(async () => {
  await guards.close();
  await kernel.apply(app.id, [{ kind: "retract" }]);
  await kernel.close();
  hosts.close();
});

/** An Ethernet frame with an IPv4 UDP packet, or an ARP request, in VXLAN (RFC 7348). */
function frame(vni: number, mac: Mac, ip: Ip, kind: "ip" | "arp"): Buffer {
  const vxlan = Buffer.alloc(8);
  vxlan.writeUInt8(8, 0);
  vxlan.writeUIntBE(vni, 4, 3);
  const body = kind === "ip" ? packet(ip, local.ipv4!) : arp(mac, ip);
  const type = Buffer.from(kind === "ip" ? "0800" : "0806", "hex");
  return Buffer.concat([vxlan, macToBytes(local.mac), macToBytes(mac), type, body]);
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
  hosts.in(from, `socat -u OPEN:${file} UDP-SENDTO:198.51.100.1:${PORT}`);
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

const from = (endpoint: Endpoint, kind: "ip" | "arp" = "ip", vni: number = app.vni): Buffer =>
  frame(vni, endpoint.mac, endpoint.ipv4!, kind);

describe("the guards of a host", () => {
  test("let in what a member says of its own containers, and count nothing", async () => {
    expect(await outcome(host(2), from(remote))).toEqual({ arrived: 1, why: [] });
    expect(await outcome(host(2), from(remote, "arp"))).toEqual({ arrived: 1, why: [] });
  });

  test("drop a stranger's frames, whatever they say", async () => {
    expect(await outcome(host(3), from(remote))).toEqual({ arrived: 0, why: ["stranger"] });
  });

  test("drop a network that the member does not host", async () => {
    await guards.set({ ...desired, hosting: [] });
    expect(await outcome(host(2), from(remote))).toEqual({ arrived: 0, why: ["notHosting"] });
  });

  test("drop who speaks for another's container, by MAC, by address, and in ARP", async () => {
    const other = endpoint(3, 7);
    const none = { arrived: 0, why: ["notSpeaker"] };
    for (const kind of ["ip", "arp"] as const) {
      expect(await outcome(host(2), from({ ...remote, mac: other.mac }, kind))).toEqual(none);
      expect(await outcome(host(2), from({ ...remote, ipv4: other.ipv4 }, kind))).toEqual(none);
    }
  });

  test("drop what comes in the ports of classes that are not in use", async () => {
    const file = join(hosts.directory, "datagram");
    writeFileSync(file, from(remote));
    const before = await guards.counters();
    hosts.in(host(2), `socat -u OPEN:${file} UDP-SENDTO:198.51.100.1:7950`);
    const after = await guards.counters();
    expect(after["unusedClass"]).toBe((before["unusedClass"] ?? 0) + 1);
  });

  test("stop a container with a way out from posing as its host, on that host", async () => {
    const inside = hosts.netns("c2");
    const own = new NftGuards({ hostNetns: host(2) });
    await own.set({ ...desired, vteps: [vtep(1)], hosting: [], speakers: [] });
    for (const command of [
      `ip link add egress type veth peer name eth0 netns ${inside}`,
      "ip link set egress up",
      "ip address add 172.31.9.1/24 dev egress",
      "sysctl -qw net.ipv4.ip_forward=1",
      "nft add table ip nat",
      "nft add chain ip nat post { type nat hook postrouting priority 100 ; }",
      "nft add rule ip nat post oifname eth0 masquerade",
    ])
      hosts.in(host(2), command);
    for (const command of [
      "ip link set eth0 up",
      "ip address add 172.31.9.2/24 dev eth0",
      "ip route add default via 172.31.9.1",
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

  test("follow thousands of containers by difference", async () => {
    const speakers = Array.from({ length: 5000 }, (_, i) => {
      const ip = Ip.parse(`10.192.${2 + (i >> 8)}.${i & 255}`);
      return { vtep: vtep(2), vni: app.vni, mac: remote.mac, ip };
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
