import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as neighbour from "../../agent/kernel/netlink/neighbour.ts";
import * as route from "../../agent/kernel/netlink/route.ts";
import { RtNetlink } from "../../agent/kernel/netlink/socket.ts";
import { bytesToMac } from "../../shared/mac.ts";
import { numberToIp } from "../../shared/ip.ts";
import { TestHosts } from "../support/hosts.ts";
import { median, round, timed } from "./statistics.ts";

export interface Fdb {
  readonly entries: number;
  readonly oursPerSecond: number;
  readonly bridgeBatchPerSecond: number;
  readonly overBridgeBatch: number;
}

/** VXLAN FDB entries into an empty device: our netlink batches beside `bridge -batch`; same content. */
export async function measureFdb(entries: number, rounds: number): Promise<Fdb> {
  const hosts = new TestHosts(1);
  const netns = hosts.netns("fdb");
  const file = join(hosts.directory, "batch");
  const list = Array.from({ length: entries }, (_, i) => ({
    mac: bytesToMac(Uint8Array.of(2, 0x42, 10, (i >> 16) & 255, (i >> 8) & 255, i & 255)),
    vtep: numberToIp(0xc6336400n + BigInt(2 + (i % 200)), 4),
  }));
  writeFileSync(
    file,
    list
      .map(({ mac, vtep }) => `fdb replace ${mac} dev vx0 dst ${vtep} self master extern_learn\n`)
      .join(""),
  );
  const fresh = (): void => {
    for (const command of ["ip link del vx0", "ip link del br0"])
      try {
        hosts.in(netns, command);
      } catch {
        // The first round has none.
      }
    hosts.in(netns, "ip link add br0 type bridge");
    hosts.in(netns, "ip link add vx0 type vxlan id 5 dstport 4790 nolearning");
    hosts.in(netns, "ip link set vx0 master br0 up");
    hosts.in(netns, "ip link set br0 up");
  };
  const content = async (socket: RtNetlink): Promise<string> =>
    (await socket.dump(neighbour.dumpNeighbours("bridge")))
      .map(neighbour.decodeNeighbour)
      .filter(({ extLearned }) => extLearned)
      .map(({ mac, master, destination }) => `${mac} ${master} ${destination}`)
      .toSorted()
      .join("\n");
  const ours: number[] = [];
  const theirs: number[] = [];
  try {
    for (let i = 0; i < rounds; i++) {
      fresh();
      const socket = new RtNetlink(netns);
      const links = (await socket.dump(route.dumpLinks)).map(route.decodeLink);
      const index = links.find(({ name }) => name === "vx0")?.index ?? 0;
      ours.push(
        await timed(() =>
          socket.batch(list.map(({ mac, vtep }) => neighbour.putFdb(index, mac, vtep))),
        ),
      );
      const written = await content(socket);
      fresh();
      theirs.push(
        await timed(async () => {
          execFileSync("nsenter", [`--net=${netns}`, "bridge", "-batch", file]);
        }),
      );
      const batch = await content(socket);
      socket.close();
      if (written !== batch || written.split("\n").length !== entries * 2)
        throw new Error("the two did not write the same entries");
    }
  } finally {
    hosts.close();
  }
  const perSecond = (times: number[]): number => round((entries * 1000) / median(times), 0);
  return {
    entries,
    oursPerSecond: perSecond(ours),
    bridgeBatchPerSecond: perSecond(theirs),
    overBridgeBatch: round(median(theirs.map((ms, i) => ms / (ours[i] ?? Number.NaN)))),
  };
}
