// @module-tag never

import { writeFileSync } from "node:fs";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { DesiredGuards } from "../../agent/core/data-plane/kernel-state.ts";
import { LinuxKernel } from "../../agent/kernel/linux-kernel.ts";
import { LeftTable } from "../../agent/kernel/nft/left-table.ts";
import { Nft } from "../../agent/kernel/nft/nft.ts";
import { NftGuards } from "../../agent/kernel/nft/nft-guards.ts";
import { addressesOf, type Endpoint } from "../../shared/documents.ts";
import { Cidr, type Family, Ip, ipToBytes } from "../../shared/ip.ts";
import { linkLocalOf, macToBytes, type Mac } from "../../shared/mac.ts";
import { app, dataPlane, endpoint, vtepOf, withIpv6 } from "../support/cluster.ts";
import { Capture, containing } from "../support/capture.ts";
import { TestHosts } from "../support/hosts.ts";
import { eventually } from "../support/lab-host.ts";
import { WITHOUT_RIGHTS } from "../support/without-rights.ts";

const run = promisify(execFile);

/** h1 has a container of the network behind its guards; h2 may speak to it, h3 is a stranger. */

const PORT = 7948;
/** For a packet that is on its way. */
const LOOKS = 20;
/** What packets that must not leave are filled with. */
const MARK = "0e1d2c3b4a5968778695a4b3c2d1e0ff";
const local = withIpv6(endpoint(1, 5));
const remote = withIpv6(endpoint(2, 5));

function desiredOver(family: Family): DesiredGuards {
  const vtep = vtepOf(2, family);
  return {
    underlayFamily: family,
    classPorts: { plain: PORT, wireguard: 7949, ipsec: 7950 },
    meshPorts: [7947, 7952],
    ipsec: false,
    exposed: [],
    sealed: [],
    vteps: [vtep],
    hosting: [{ vtep, vni: app.vni }],
    speakers: [{ vtep, vni: app.vni, members: [{ mac: remote.mac, ips: addressesOf(remote) }] }],
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
  // The kernel may be handing it on still; where nothing is to be seen of it, it is not for long.
  for (let look = 1; ; look++) {
    const after = await guards.counters();
    const why = Object.keys(after).filter((name) => after[name] !== before[name]);
    const arrived = received() - packets;
    if (arrived > 0 || why.length > 0 || look === LOOKS) return { arrived, why };
    await delay(50);
  }
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
    await guards.set({ ...desired, hosting: [], speakers: [] });
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
    await eventually(10_000, "the count of it", async () =>
      expect((await guards.counters())["unusedClass"]).toBe((before["unusedClass"] ?? 0) + 1),
    );
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

  test.each(WITHOUT_RIGHTS)("stop a process %s from sending as its host's VTEP", async (_, as) => {
    const own = new NftGuards({ hostNetns: host(2) });
    await own.set({ ...desired, vteps: [vtepOf(1, over)], hosting: [], speakers: [] });
    const run = (command: string): string => hosts.in(host(2), `${as.join(" ")} ${command}`);
    expect(run("grep CapEff /proc/self/status").trim()).toMatch(/\s0+$/);
    const sent = (): void => {
      const file = join(hosts.directory, "datagram");
      for (const port of [PORT, 7949, 7950])
        try {
          run(`socat -u OPEN:${file} ${udpTo(port)}`);
        } catch {
          // The sender is told: EPERM.
        }
    };
    hosts.in(host(1), `chmod 755 ${hosts.directory}`);
    writeFileSync(join(hosts.directory, "datagram"), from(remote));
    const before = received();
    sent();
    expect(received()).toBe(before);
    expect(await own.counters()).toMatchObject({ ownProcess: 3 });
    // Without the rule it would have arrived: the test can fail.
    await own.remove();
    sent();
    await eventually(10_000, "what it sends then", async () => expect(received()).toBe(before + 1));
    await own.close();
  });

  describe("between a container's way out and the link", () => {
    const [docker, inside, near, far, network, length] =
      over === 4
        ? ["172.31.9.1", "172.31.9.2", vtepOf(2, 4), "10.5.0.7", "10.5.0.0/16", 24]
        : ["fd00:9::1", "fd00:9::2", vtepOf(2, 6), "fd00:5::7", "fd00:5::/64", 64];
    let box: string;
    const toward = (ip: string, port: number): string =>
      over === 4 ? `TCP4:${ip}:${port}` : `TCP6:[${ip}]:${port}`;
    const inClear = async (): Promise<number> => {
      const file = join(hosts.directory, "clear.pcap");
      const capture = await Capture.start(host(2), "eth0", file);
      try {
        hosts.in(box, `ping -n -c 3 -i 0.2 -W 1 -p ${MARK} ${far}`);
      } catch {
        // No answer, as there is nobody.
      } finally {
        await capture.stop();
      }
      return containing(capture.frames(), Buffer.from(MARK, "hex"));
    };
    /** Whether a connection is made, from a namespace. */
    const connects = async (from: string, ip: string, port: number): Promise<boolean> => {
      const socat = ["socat", "-u", "OPEN:/dev/null", `${toward(ip, port)},connect-timeout=1`];
      return run("nsenter", [`--net=${from}`, ...socat]).then(
        () => true,
        () => false,
      );
    };
    /** Of these, where a connection is made to; asked all at once, since a refusal is a second of silence. */
    const reachedOf = async (
      from: string,
      ends: readonly (readonly [string, number])[],
    ): Promise<(readonly [string, number])[]> => {
      const made = await Promise.all(ends.map(([ip, port]) => connects(from, ip, port)));
      return ends.filter((_, i) => made[i]);
    };
    const listening = (netns: string, port: number): ChildProcess => {
      const address = over === 4 ? "TCP4-LISTEN" : "TCP6-LISTEN";
      const listen = `${address}:${port},fork,reuseaddr`;
      return spawn("nsenter", [`--net=${netns}`, "socat", "-u", listen, "OPEN:/dev/null"], {
        stdio: "ignore",
      });
    };
    const listens = (netns: string, port: number): Promise<void> =>
      eventually(10_000, "the listener", async () => {
        if (!hosts.in(netns, "ss -Hltn").includes(`:${port} `)) throw new Error("not yet");
      });

    beforeEach(async () => {
      box = hosts.netns("box");
      const [flag, table] =
        over === 4 ? ["net.ipv4.ip_forward", "ip"] : ["net.ipv6.conf.all.forwarding", "ip6"];
      for (const command of [
        "ip link add docker_gwbridge type bridge",
        // While its link-local address is tentative, the kernel asks for no neighbour of what it forwards.
        "sysctl -qw net.ipv6.conf.docker_gwbridge.accept_dad=0",
        "ip link set docker_gwbridge up",
        `ip address add ${docker}/${length} dev docker_gwbridge${over === 6 ? " nodad" : ""}`,
        `ip link add egress type veth peer name eth0 netns ${box}`,
        "ip link set egress master docker_gwbridge up",
        `sysctl -qw ${flag}=1`,
        // Whoever is on the link is the way to everything else.
        `ip -${over} route replace default via ${near} dev eth0`,
        `nft add table ${table} nat`,
        `nft add chain ${table} nat post { type nat hook postrouting priority 100 ; }`,
        `nft add rule ${table} nat post oifname eth0 masquerade`,
        `nft add chain ${table} nat pre { type nat hook prerouting priority -100 ; }`,
        `nft add rule ${table} nat pre tcp dport 8080 dnat to ${over === 4 ? `${inside}:80` : `[${inside}]:80`}`,
      ])
        hosts.in(host(1), command);
      for (const command of [
        "ip link set eth0 up",
        `ip address add ${inside}/${length} dev eth0${over === 6 ? " nodad" : ""}`,
        `ip -${over} route add default via ${docker}`,
      ])
        hosts.in(box, command);
      hosts.in(host(3), `ip -${over} route add ${inside} via ${vtepOf(1, over)}`);
    });

    test("no packet for a network that is to be reached by one's own interface only", async () => {
      await guards.set({ ...desired, sealed: [Cidr.parse(network)] });
      expect(await guards.verify()).toBe(true);
      expect(await inClear()).toBe(0);
      expect(await guards.counters()).toMatchObject({ aroundNetwork: 3 });
      // A host leaves by force: its containers stay, and so does this, also when its tables are empty first.
      expect([await guards.hold(), await guards.hold()]).toEqual([false, true]);
      await guards.set({ ...desired, sealed: [] });
      expect(await inClear()).toBe(0);
      await guards.remove({ keepSealed: true });
      expect(await inClear()).toBe(0);
      await guards.remove({ keepSealed: true });
      expect(await inClear()).toBe(0);
      expect(hosts.in(host(1), "nft list tables").trim()).toContain("inet overlay_ts_left");
      // No agent has it in mind then, and somebody reloads the firewall.
      const left = new LeftTable(new Nft(host(1)));
      await left.look();
      const list = "nft list table inet overlay_ts_left";
      const stands = hosts.in(host(1), list).replace(/packets \d+ bytes \d+/g, "");
      for (const loss of [
        "delete table inet overlay_ts_left",
        "flush chain inet overlay_ts_left forward",
      ]) {
        hosts.in(host(1), `nft ${loss}`);
        await eventually(20_000, "what is left", async () =>
          expect(hosts.in(host(1), list).replace(/packets \d+ bytes \d+/g, "")).toBe(stands),
        );
      }
      left.letGo();
      expect(await inClear()).toBe(0);
      // Without them they would leave: the test can fail.
      await guards.remove();
      expect(await inClear()).toBeGreaterThanOrEqual(3);
      expect(hosts.in(host(1), "nft list tables")).not.toContain("overlay_ts");
    });

    test("subnets come and go by difference, a single address too", async () => {
      const one = over === 4 ? ["10.6.0.0/16", "10.7.0.1/32"] : ["fd00:6::/64", "fd00:7::1/128"];
      for (const sealed of [[network], [network, ...one], one, []]) {
        await guards.set({ ...desired, sealed: sealed.map((text) => Cidr.parse(text)) });
        expect(await guards.verify()).toBe(true);
      }
    });

    test("only what was published or asked for gets in", async () => {
      const servers = [listening(box, 80), listening(host(3), 90)];
      try {
        await listens(box, 80);
        await listens(host(3), 90);
        expect(await connects(host(3), inside, 80)).toBe(false);
        expect((await guards.counters())["unpublished"]).toBeGreaterThan(0);
        expect(await connects(host(3), vtepOf(1, over), 8080)).toBe(true);
        expect(await connects(host(1), inside, 80)).toBe(true);
        expect(await connects(box, vtepOf(3, over), 90)).toBe(true);
        await guards.remove();
        expect(await connects(host(3), inside, 80)).toBe(true);
      } finally {
        for (const server of servers) server.kill();
      }
    });

    test.each(["docker0", "br-0123456789ab", "ovc0123456789", "ovt0"])(
      "no connection to the mesh or the controller from %s",
      async (link) => {
        for (const command of [
          "ip link set docker_gwbridge down",
          `ip link set docker_gwbridge name ${link}`,
          `ip link set ${link} up`,
        ])
          hosts.in(host(1), command);
        // Of IPv6 the address went with the link.
        hosts.in(host(1), `ip address replace ${docker}/${length} dev ${link}`);
        const servers = [7947, 7952].map((port) => listening(host(1), port));
        const ends = [7947, 7952].map((port) => [vtepOf(1, over), port] as const);
        try {
          for (const port of [7947, 7952]) await listens(host(1), port);
          expect(await reachedOf(box, ends)).toEqual([]);
          expect((await guards.counters())["toMesh"]).toBeGreaterThanOrEqual(2);
          // Such a bridge can be the host's uplink, with the address that peers connect to.
          expect(await connects(box, docker, 7947)).toBe(link.startsWith("br-"));
          await guards.remove();
          expect(await reachedOf(box, ends)).toEqual(ends);
        } finally {
          for (const server of servers) server.kill();
        }
      },
    );

    test("no connection to the mesh or the controller, of this host or another", async () => {
      const servers = [7947, 7952].flatMap((port) => [
        listening(host(1), port),
        listening(host(2), port),
      ]);
      const all = [vtepOf(1, over), docker, vtepOf(2, over)].flatMap((ip) =>
        [7947, 7952].map((port) => [ip, port] as const),
      );
      try {
        for (const port of [7947, 7952]) for (const k of [1, 2]) await listens(host(k), port);
        expect(await reachedOf(box, all)).toEqual([]);
        expect((await guards.counters())["toMesh"]).toBeGreaterThanOrEqual(all.length);
        // Hosts, members or not yet, do.
        expect(await connects(host(3), vtepOf(1, over), 7947)).toBe(true);
        await guards.remove();
        expect(await reachedOf(box, all)).toEqual(all);
      } finally {
        for (const server of servers) server.kill();
      }
    });
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
    hosts.in(host(1), "nft flush chain inet overlay_ts plainIn");
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
      return { mac: remote.mac, ips: [ip] };
    });
    const speaking = (members: typeof speakers): Promise<void> =>
      guards.set({ ...desired, speakers: [{ vtep: vtepOf(2, over), vni: app.vni, members }] });
    await speaking(speakers);
    expect(await guards.verify()).toBe(true);
    const { written } = guards.work();
    await speaking(speakers.slice(10));
    expect(guards.work()).toMatchObject({ written: written + 10, drifts: 0 });
    expect(await guards.verify()).toBe(true);
    expect(await outcome(host(2), from({ ...remote, ipv4: speakers[3]!.ips[0]! }))).toEqual({
      arrived: 0,
      why: ["notSpeaker"],
    });
  });
});
