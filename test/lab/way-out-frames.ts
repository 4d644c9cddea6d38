import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { Ip } from "../../shared/ip.ts";
import { Mac, macToBytes } from "../../shared/mac.ts";
import { Capture, containing, newMarker } from "../support/capture.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { vxlanDatagram } from "../support/vxlan-datagram.ts";
import { netnsOf } from "./containers.ts";

/** Frames between containers' ends on docker_gwbridge, by NET_RAW alone, as Docker gives it to everybody. */

const run = promisify(execFile);
const VXLAN_BYTES = 8;
const ADDRESSES_BYTES = 12;
/** IEEE 802.1Q: VLAN 0, which says a priority alone. */
const TAG = Buffer.from("81000000", "hex");

export async function inNetns(netns: string, ...command: string[]): Promise<string> {
  const { stdout } = await run("nsenter", [`--net=${netns}`, ...command]);
  return stdout;
}

/** Of a container, where it is on docker_gwbridge. */
export interface End {
  readonly host: LabHost;
  readonly container: string;
  readonly netns: string;
  readonly mac: Mac;
  readonly ip: Ip;
  /** The bridge's. */
  readonly port: string;
  /** A frame of no protocol, from whatever MAC. */
  readonly sends: (frame: { to: string; from: string }) => Promise<void>;
}

/** @param container which is on one network of ours, and on none of Docker's. */
export async function endOf(host: LabHost, container: string): Promise<End> {
  const netns = await netnsOf(host, container);
  const [link] = JSON.parse(await inNetns(netns, "ip", "-j", "address", "show", "eth1")) as {
    address: string;
    link_index: number;
    addr_info: { local: string }[];
  }[];
  const ports = JSON.parse(
    await host.exec("ip", "-j", "link", "show", "master", "docker_gwbridge"),
  ) as {
    ifindex: number;
    ifname: string;
  }[];
  const port = ports.find(({ ifindex }) => ifindex === link?.link_index);
  if (link === undefined || port === undefined)
    throw new Error(`${container} on ${host.name} is not on docker_gwbridge`);
  const ip = Ip.parse(link.addr_info[0]?.local);
  return {
    host,
    container,
    netns,
    mac: Mac.parse(link.address),
    ip,
    port: port.ifname,
    sends: ({ to, from }) => raw(host, netns, frame(to, from, "88b5", newMarker())),
  };
}

/** How many frames of each kind, of one that `from` sends, get to `to`. */
export async function crossings(
  from: End,
  to: End,
): Promise<{ raw: number; tagged: number; ip: number; taggedIp: number }> {
  const [raw1, tagged1, ip1, taggedIp1] = [newMarker(), newMarker(), newMarker(), newMarker()];
  const datagram = (marker: Buffer): Buffer =>
    vxlanDatagram(0, from, to, marker).subarray(VXLAN_BYTES);
  const frames = await arriving(to, async () => {
    for (const each of [
      frame(to.mac, from.mac, "88b5", raw1),
      tagged(frame(to.mac, from.mac, "88b5", tagged1)),
      datagram(ip1),
      tagged(datagram(taggedIp1)),
    ])
      await raw(from.host, from.netns, each);
  });
  return {
    raw: containing(frames, raw1),
    tagged: containing(frames, tagged1),
    ip: containing(frames, ip1),
    taggedIp: containing(frames, taggedIp1),
  };
}

/** Behind which of its ports docker_gwbridge has this MAC. */
export async function portOf(host: LabHost, mac: Mac): Promise<string> {
  const text = await host.exec("bridge", "-j", "fdb", "show", "br", "docker_gwbridge");
  const entries = JSON.parse(text) as { mac: string; ifname: string; master?: string }[];
  const found = entries.find((entry) => entry.mac === mac && entry.master !== undefined);
  return found?.ifname ?? "nowhere";
}

/** What an end gets while `work` runs; it ends with an echo request of its host, which it always gets. */
async function arriving(to: End, work: () => Promise<void>): Promise<Buffer[]> {
  const last = newMarker();
  const file = join(to.host.directory, "arriving.pcap");
  const capture = await Capture.start(to.netns, "eth1", file);
  try {
    await work();
    await eventually(20_000, "the end of the capture", async () => {
      const echo = ["ping", "-c", "1", "-W", "1", "-p", last.toString("hex"), to.ip];
      await to.host.exec(...echo).catch(() => {});
      if (containing(capture.frames(), last) === 0) throw new Error("not seen yet");
    });
  } finally {
    await capture.stop();
  }
  return capture.frames();
}

function frame(to: string, from: string, type: string, marker: Buffer): Buffer {
  const head = [macToBytes(Mac.parse(to)), macToBytes(Mac.parse(from)), Buffer.from(type, "hex")];
  return Buffer.concat([...head, marker, Buffer.alloc(32)]);
}

function tagged(untagged: Buffer): Buffer {
  const [addresses, rest] = [
    untagged.subarray(0, ADDRESSES_BYTES),
    untagged.subarray(ADDRESSES_BYTES),
  ];
  return Buffer.concat([addresses, TAG, rest]);
}

async function raw(host: LabHost, netns: string, bytes: Buffer): Promise<void> {
  const file = join(host.directory, "frame");
  writeFileSync(file, bytes);
  await inNetns(netns, "socat", "-u", `OPEN:${file}`, "INTERFACE:eth1");
}
