import { randomBytes } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { execFile } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEFAULT_PORTS } from "../../shared/cluster-state.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Mac } from "../../shared/mac.ts";
import { Capture, containing } from "../support/capture.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { past, turn } from "../support/turned-host.ts";
import { type FrameEnd, vxlanDatagram } from "../support/vxlan-datagram.ts";
import { netnsOf, OURS, reaches, start } from "./containers.ts";
import { Lab, switchOf } from "./lab.ts";

/**
 * Frames that are forged, and in clear, for containers of h1: on an encrypted network whoever sends them,
 * on a plain one whoever may not. What a container gets is looked at in its own namespace.
 */

const run = promisify(execFile);
const directory = mkdtempSync(join(tmpdir(), "overlay-ts-injection-test-"));
const H1 = "198.51.100.1";
const { vxlanPlain, vxlanWireguard, vxlanIpsec } = DEFAULT_PORTS;
const PORTS = [vxlanPlain, vxlanWireguard, vxlanIpsec];
let lab: Lab;
let h1: LabHost;
let h2: LabHost;

interface Net {
  readonly vni: number;
  /** Of the container that is aimed at. */
  readonly here: FrameEnd;
  /** Of whom the frame says that it is from. */
  readonly there: FrameEnd;
}

const nets = new Map<string, Net>();

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: true, say: () => {} });
  [h1, h2] = lab.hosts as [LabHost, LabHost];
  await lab.form(() => {}, 4, "--encryption", "wireguard");
  turn(h2.netns, PORTS);
  await h1.docker(...OURS, "-o", "encryption=none", "plain");
  await h1.docker(...OURS, "secret");
  await h1.docker(...OURS, "-o", "encrypted", "single");
  for (const network of ["plain", "secret", "single"]) await h2.waitForNetwork(network);
  for (const network of ["plain", "secret"]) await start(h2, `${network}-h2`, network);
  for (const network of ["plain", "secret", "single"]) await start(h1, `${network}-h1`, network);
  for (const host of [h1, h2])
    await eventually(60_000, `agreement on ${host.name}`, () => host.agrees());
  for (const network of ["plain", "secret", "single"]) nets.set(network, await netOf(network));
  for (const network of ["plain", "secret"])
    await reaches(h1, `${network}-h1`, netOfName(network).there.ip);
});

afterAll(() => Lab.down(directory));

/** h1 may hear of the other's container a moment after it runs. */
async function netOf(network: string): Promise<Net> {
  const { vni } = JSON.parse(await h1.overlay("network", "inspect", network)) as { vni: number };
  const hosts = network === "single" ? ["h1"] : ["h1", "h2"];
  const rows = await eventually(20_000, `who is on ${network}`, async () => {
    const said = await h1.ask<{ host: string; ips: Ip[]; mac: Mac }[]>(
      `endpoints?network=${network}`,
    );
    expect(said.map(({ host }) => host).toSorted()).toEqual(hosts);
    return said;
  });
  const end = (host: string): FrameEnd | undefined => {
    const row = rows.find((each) => each.host === host);
    return row && { mac: row.mac, ip: row.ips[0]! };
  };
  const here = end("h1");
  if (here === undefined) throw new Error(`h1 has no container on ${network}`);
  // A network with one container: as from a second one.
  const other = { mac: "02:42:0a:00:00:99" as Mac, ip: here.ip.replace(/\d+$/, "99") as Ip };
  return { vni, here, there: end("h2") ?? other };
}

const netOfName = (name: string): Net => nets.get(name)!;

async function dropped(): Promise<number> {
  const { guards, encryption } = await h1.status();
  const counts = [guards.dropped, encryption.wireguard?.dropped ?? {}];
  return counts.flatMap((each) => Object.values(each)).reduce((sum, n) => sum + n, 0);
}

/** How many of the forged frames, one to each of the ports, the container got. */
async function got(network: string, sender: string, ports = PORTS): Promise<number> {
  const { vni, here, there } = netOfName(network);
  const marker = Buffer.from(randomBytes(16).toString("hex"));
  const file = join(directory, "datagram");
  writeFileSync(file, vxlanDatagram(vni, there, here, marker));
  const container = await netnsOf(h1, `${network}-h1`);
  return arrived(container, "eth0", marker, async () => {
    for (const port of ports)
      await run("nsenter", [
        `--net=${sender}`,
        "socat",
        "-u",
        `OPEN:${file}`,
        `UDP-SENDTO:${H1}:${sender === member() ? past(port) : port}`,
      ]).catch(() => {});
  });
}

/**
 * How many frames with the marker passed a container's link while `work` was done. The container then sends a frame of its
 * own: what the capture had before it is in it.
 */
async function arrived(
  container: string,
  link: string,
  marker: Buffer,
  work: () => Promise<unknown>,
): Promise<number> {
  const last = Buffer.from(randomBytes(16).toString("hex"));
  const file = join(directory, "last");
  const nobody = Buffer.from("02000000000102000000000288b5", "hex");
  writeFileSync(file, Buffer.concat([nobody, last, Buffer.alloc(32)]));
  const capture = await Capture.start(container, link, join(directory, "got.pcap"));
  try {
    await work();
    // What is on its way.
    await delay(500);
    await eventually(60_000, "the end of the capture", async () => {
      await run("nsenter", [
        `--net=${container}`,
        "socat",
        "-u",
        `OPEN:${file}`,
        `INTERFACE:${link}`,
      ]);
      expect(containing(capture.frames(), last)).toBeGreaterThan(0);
    });
  } finally {
    await capture.stop();
  }
  return containing(capture.frames(), marker);
}

const stranger = (): string => switchOf(lab);
const member = (): string => h2.netns;

test("networks are of the kind that the cluster was made with, unless they say another", async () => {
  const networks = await h2.ask<
    {
      name: string;
      encryption: string;
    }[]
  >("networks");
  expect(new Map(networks.map(({ name, encryption }) => [name, encryption]))).toEqual(
    new Map([
      ["plain", "none"],
      ["secret", "wireguard"],
      ["single", "wireguard"],
    ]),
  );
});

test("control: a member's frame for a container that it has is got, on a plain network", async () => {
  await eventually(20_000, "the member's frame", async () =>
    expect(await got("plain", member(), [vxlanPlain])).toBe(1),
  );
});

describe.each(["plain", "secret", "single"])("the network %s", (network) => {
  test("gets nothing from a stranger, and it is counted", async () => {
    const before = await dropped();
    expect(await got(network, stranger())).toBe(0);
    expect(await dropped()).toBeGreaterThan(before);
  });

  test("gets nothing of what a container sends out through its host, which a member's address masks", async () => {
    const before = await dropped();
    expect(await got(network, await netnsOf(h2, "plain-h2"))).toBe(0);
    // The sending host drops them: none of them is to be seen here.
    expect(await dropped()).toBe(before);
    const { guards } = await h2.status();
    expect(guards.dropped["forwarded"]).toBeGreaterThanOrEqual(PORTS.length);
  });
});

/** What of one frame from a container of `plain`, on its way out, gets to one of `secret` on the same host. */
async function crossing(type: string): Promise<number> {
  const [from, to] = [await netnsOf(h1, "plain-h1"), await netnsOf(h1, "secret-h1")];
  const macOf = async (netns: string): Promise<Buffer> => {
    const { stdout } = await run("nsenter", [`--net=${netns}`, "ip", "-j", "link", "show", "eth1"]);
    const [link] = JSON.parse(stdout) as { address: string }[];
    return Buffer.from(link!.address.replaceAll(":", ""), "hex");
  };
  const marker = Buffer.from(randomBytes(16).toString("hex"));
  const file = join(directory, "frame");
  const head = [await macOf(to), await macOf(from), Buffer.from(type, "hex")];
  writeFileSync(file, Buffer.concat([...head, marker, Buffer.alloc(32)]));
  const send = ["socat", "-u", `OPEN:${file}`, "INTERFACE:eth1"];
  return arrived(to, "eth1", marker, () => run("nsenter", [`--net=${from}`, ...send]));
}

test("containers of two networks do not meet on docker_gwbridge, by which both reach their host", async () => {
  for (const container of ["plain-h1", "secret-h1"]) await reaches(h1, container, "10.255.240.1");
  await eventually(60_000, "ports that are isolated and bound", () => h1.agrees());
  // Of no protocol, and tagged with VLAN 0.
  expect(await crossing("88b5")).toBe(0);
  expect(await crossing("810000000800")).toBe(0);
});

test("CVE-2023-28840: an encrypted network gets nothing in clear, also from a member that is on it", async () => {
  const before = await dropped();
  expect(await got("secret", member())).toBe(0);
  expect(await dropped()).toBeGreaterThan(before);
});

test("CVE-2023-28842: nor does one with a single container, from a member that is not on it", async () => {
  const before = await dropped();
  expect(await got("single", member())).toBe(0);
  expect(await dropped()).toBeGreaterThan(before);
});

test("from inside the tunnel a member speaks for its own containers only", async () => {
  const { vni, here, there } = netOfName("secret");
  const sender = h2.path("/run/overlay-ts/netns/wireguard");
  turn(sender, [vxlanWireguard]);
  const send = async (from: FrameEnd, on = vni): Promise<number> => {
    const marker = Buffer.from(randomBytes(16).toString("hex"));
    const file = join(directory, "datagram");
    writeFileSync(file, vxlanDatagram(on, from, here, marker));
    const to = `UDP-SENDTO:198.19.0.1:${past(vxlanWireguard)}`;
    return arrived(await netnsOf(h1, "secret-h1"), "eth0", marker, () =>
      run("nsenter", [`--net=${sender}`, "socat", "-u", `OPEN:${file}`, to]),
    );
  };
  await eventually(20_000, "the member's own frame", async () => expect(await send(there)).toBe(1));
  const before = await dropped();
  expect(await send({ ...there, ip: there.ip.replace(/\d+$/, "77") as Ip })).toBe(0);
  expect(await send({ ...there, mac: "02:42:0a:00:00:77" as Mac })).toBe(0);
  // A network that it is not on.
  expect(await send(there, netOfName("single").vni)).toBe(0);
  expect(await dropped()).toBeGreaterThanOrEqual(before + 3);
});
