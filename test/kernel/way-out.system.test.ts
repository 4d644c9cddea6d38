// @module-tag never

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WayOutPorts } from "../../agent/kernel/way-out-ports.ts";
import { WayOutReconciler } from "../../agent/kernel/way-out-reconciler.ts";
import { Mac, macToBytes } from "../../shared/mac.ts";
import { silentLog } from "../../shared/ports.ts";
import { eventually } from "../support/lab-host.ts";
import { TestHosts } from "../support/hosts.ts";

/** docker_gwbridge with containers a and b of two networks, as Docker makes it; one address of a host beyond. */

const GATEWAY = "10.255.240.1";
let hosts: TestHosts;
let host: string;
let wayOutReconciler: WayOutReconciler | undefined;

interface Inside {
  readonly netns: string;
  readonly port: string;
  readonly mac: Mac;
  readonly ip: string;
}
let a: Inside;
let b: Inside;

beforeEach(() => {
  hosts = new TestHosts(1);
  host = join(hosts.directory, "h1");
  hosts.in(host, "ip link add docker_gwbridge type bridge");
  hosts.in(host, "ip link set docker_gwbridge up");
  hosts.in(host, `ip address add ${GATEWAY}/20 dev docker_gwbridge`);
  a = container("a", 2);
  b = container("b", 3);
});

afterEach(async () => {
  await wayOutReconciler?.stop();
  wayOutReconciler = undefined;
  hosts.close();
});

/** In Docker's order: the port first, the container's end up last. */
function container(name: string, k: number): Inside {
  const netns = hosts.netns(name);
  const [port, ip] = [`veth${name}`, `10.255.240.${k}`];
  const mac = Mac.parse(`02:42:0a:ff:f0:0${k}`);
  hosts.in(host, `ip link add ${port} type veth peer name tmp`);
  hosts.in(host, `ip link set ${port} master docker_gwbridge up`);
  hosts.in(host, `ip link set tmp netns ${netns}`);
  for (const command of [
    "sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
    "ip link set tmp name eth1",
    `ip link set eth1 address ${mac}`,
    `ip address add ${ip}/20 dev eth1`,
    "ip link set eth1 up",
  ])
    hosts.in(netns, command);
  return { netns, port, mac, ip };
}

async function isolate(): Promise<WayOutPorts> {
  const ports = new WayOutPorts({ hostNetns: host });
  wayOutReconciler = new WayOutReconciler(ports, silentLog, {
    what: "isolating",
    changed: () => {},
  });
  await wayOutReconciler.start();
  return ports;
}

/** A frame by NET_RAW alone, as Docker gives it to everybody. */
function raw(from: Inside, to: Mac, source: Mac, type: string, body: Buffer): void {
  const file = join(hosts.directory, "frame");
  const head = [macToBytes(to), macToBytes(source), Buffer.from(type, "hex")];
  writeFileSync(file, Buffer.concat([...head, body], 60));
  hosts.in(from.netns, `socat -u OPEN:${file} INTERFACE:eth1`);
}

/** Frames that reach b from a: of no protocol, and tagged with VLAN 0 (IEEE 802.1Q, priority alone). */
function crossing(): { raw: number; tagged: number } {
  const table = "table netdev arrived";
  const script = join(hosts.directory, "arrived.nft");
  writeFileSync(
    script,
    `${table} {}
delete ${table}
${table} {
  counter raw {}
  counter tagged {}
  chain ingress {
    type filter hook ingress device eth1 priority 0;
    ether type 0x88b5 counter name raw
    ether type 8021q counter name tagged
  }
}`,
  );
  hosts.in(b.netns, `nft -f ${script}`);
  raw(a, b.mac, a.mac, "88b5", Buffer.alloc(46));
  raw(a, b.mac, a.mac, "810000000800", Buffer.alloc(46));
  const { nftables } = JSON.parse(hosts.in(b.netns, "nft -j list counters")) as {
    nftables: { counter?: { name: string; packets: number } }[];
  };
  const of = (name: string): number =>
    nftables.find(({ counter }) => counter?.name === name)?.counter?.packets ?? 0;
  return { raw: of("raw"), tagged: of("tagged") };
}

/** Behind which port the bridge believes b to be after a spoke with b's MAC. */
function theft(): string {
  raw(a, gatewayMac(), b.mac, "88b5", Buffer.alloc(46));
  const fdb = JSON.parse(hosts.in(host, "bridge -j fdb show br docker_gwbridge")) as {
    mac: string;
    ifname: string;
    flags: string[];
    master?: string;
  }[];
  return fdb.find(({ mac, master }) => mac === b.mac && master !== undefined)?.ifname ?? "nowhere";
}

/** Whom the host takes for b, whom it did not know, after a said in ARP that b's address is its own. */
function arpTheft(): string {
  const say = (ip: string): Buffer =>
    Buffer.concat([
      Buffer.from("0001080006040001", "hex"),
      macToBytes(a.mac),
      Buffer.from(ip.split(".").map(Number)),
      macToBytes(a.mac),
      Buffer.from(GATEWAY.split(".").map(Number)),
    ]);
  // An entry that is fresh is not believed to change.
  hosts.in(host, "ip neigh flush dev docker_gwbridge");
  raw(a, gatewayMac(), a.mac, "0806", say(b.ip));
  const [entry] = JSON.parse(hosts.in(host, `ip -j neigh show ${b.ip}`)) as { lladdr?: string }[];
  return entry?.lladdr ?? "nobody";
}

function gatewayMac(): Mac {
  const text = hosts.in(host, "ip -j link show dev docker_gwbridge");
  return Mac.parse((JSON.parse(text) as { address: string }[])[0]?.address);
}

const bothReachTheHost = async (): Promise<void> => {
  for (const { netns } of [a, b]) expect(await hosts.ping(netns, GATEWAY)).toBe(3);
};

test("without us containers of different networks reach each other, and take each other's replies", async () => {
  await bothReachTheHost();
  // Each is looked at right after it was sent: the kernel may be handing it on still.
  await eventually(10_000, "frames of the other", async () =>
    expect(crossing()).toEqual({ raw: 1, tagged: 1 }),
  );
  await eventually(10_000, "the other's MAC", async () => expect(theft()).toBe(a.port));
  await eventually(10_000, "the other's address", async () => expect(arpTheft()).toBe(a.mac));
  expect(await hosts.ping(a.netns, b.ip)).toBe(3);
});

test("with us no frame crosses, nobody takes another's MAC or address, and all reach the host", async () => {
  await isolate();
  await bothReachTheHost();
  expect(crossing()).toEqual({ raw: 0, tagged: 0 });
  expect(theft()).toBe(b.port);
  expect(arpTheft()).toBe("nobody");
  expect(await hosts.ping(a.netns, b.ip)).toBe(0);
  await bothReachTheHost();
});

test("a container that comes later is bound when it is up, and forgotten when it goes", async () => {
  const ports = await isolate();
  b = container("c", 4);
  await expect.poll(() => ports.faults(), { timeout: 20_000 }).toEqual([]);
  expect(crossing()).toEqual({ raw: 0, tagged: 0 });
  await bothReachTheHost();
  expect(theft()).toBe(b.port);
  hosts.in(host, `ip link delete ${b.port}`);
  await expect
    .poll(() => hosts.in(host, "nft list table bridge overlay_ts_way_out"), { timeout: 20_000 })
    .not.toContain(b.port);
});

const TAKEN = [
  "nft flush ruleset",
  "nft flush chain bridge overlay_ts_way_out container",
  "nft flush set bridge overlay_ts_way_out bound",
  "bridge link set dev vetha isolated off",
];

test("what somebody takes away is named, until it is put back", async () => {
  const ports = new WayOutPorts({ hostNetns: host });
  try {
    await ports.set();
    for (const command of TAKEN) {
      hosts.in(host, command);
      expect(await ports.faults(), command).toHaveLength(1);
      ports.recheck();
      await ports.set();
      expect(await ports.faults(), command).toEqual([]);
    }
  } finally {
    ports.close();
  }
});

test("what somebody takes away comes back by itself", async () => {
  const ports = await isolate();
  for (const command of TAKEN) {
    hosts.in(host, command);
    await expect.poll(() => ports.faults(), { timeout: 20_000 }).toEqual([]);
  }
  expect(crossing()).toEqual({ raw: 0, tagged: 0 });
  expect(theft()).not.toBe(a.port);
});

test("a port keeps what it had first, also for an agent that comes later; nothing is left of the filter", async () => {
  await isolate();
  await wayOutReconciler?.stop();
  hosts.in(a.netns, `ip link set eth1 address ${b.mac}`);
  await isolate();
  expect(theft()).not.toBe(a.port);
  await wayOutReconciler?.stop();
  wayOutReconciler = undefined;
  const again = new WayOutPorts({ hostNetns: host });
  await again.remove();
  again.close();
  expect(hosts.in(host, "nft list tables")).not.toContain("overlay_ts_way_out");
});
