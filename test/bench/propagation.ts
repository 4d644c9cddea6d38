import type { RawNetlinkSocket } from "netlink";
import { decodeFrames } from "../../agent/kernel/netlink/codec.ts";
import { decodeNeighbour } from "../../agent/kernel/netlink/neighbour.ts";
import { decodeLink, RTNLGRP } from "../../agent/kernel/netlink/route.ts";
import { openRouteSocket } from "../../agent/kernel/netlink/raw-socket.ts";
import { IMAGE, type Lab } from "../lab/lab.ts";
import type { LabHost } from "../support/lab-host.ts";
import { quantile, round } from "./statistics.ts";

const RTM_NEWLINK = 16;
const RTM_NEWNEIGH = 28;

export interface Propagation {
  readonly containers: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly worstMs: number;
}

/**
 * From a container's port being up on its host's bridge until the last of the other hosts' kernels
 * has its FDB entry: both as the kernels tell it, in one process, so by one clock. Where the entry
 * is there before the port it counts as 0.
 */
export async function measurePropagation(
  lab: Lab,
  network: { name: string; id: string },
  containers: number,
): Promise<Propagation> {
  const [from, ...others] = lab.hosts;
  if (from === undefined) throw new Error("no host");
  const netns = (host: LabHost): string => host.path(`/run/overlay-ts/netns/${network.id}`);
  const up: { mac: string; atMs: number }[] = [];
  const seen = others.map(() => new Map<string, number>());
  const sockets = [
    listen(netns(from), RTNLGRP.link, (frame) => {
      if (frame.type !== RTM_NEWLINK) return;
      const link = decodeLink(frame);
      const [, , mac] = link.alias.split(" ");
      // The alias is written last: the port is complete then.
      if (link.name.startsWith("ovp") && link.up && link.master !== 0 && mac !== undefined)
        if (!up.some((known) => known.mac === mac && known.atMs > performance.now() - 200))
          up.push({ mac, atMs: performance.now() });
    }),
    ...others.map((host, i) =>
      listen(netns(host), RTNLGRP.neigh, (frame) => {
        if (frame.type !== RTM_NEWNEIGH || frame.payload.readUInt8(0) !== 7) return;
        const { mac, extLearned, master } = decodeNeighbour(frame);
        if (mac !== undefined && extLearned && !master) seen[i]?.set(mac, performance.now());
      }),
    ),
  ];
  const delays: number[] = [];
  try {
    for (let i = 0; i < containers; i++) {
      const before = up.length;
      await from.docker("run", "--rm", "--network", network.name, IMAGE, "/bin/true");
      const port = up[before];
      if (port === undefined) throw new Error("the container's port was not seen");
      const arrived = seen.map((macs) => macs.get(port.mac) ?? Number.POSITIVE_INFINITY);
      delays.push(Math.max(0, ...arrived.map((atMs) => atMs - port.atMs)));
      for (const macs of seen) macs.clear();
    }
  } finally {
    for (const socket of sockets) socket.close();
  }
  return {
    containers,
    p50Ms: round(quantile(delays, 0.5), 1),
    p99Ms: round(quantile(delays, 0.99), 1),
    worstMs: round(Math.max(...delays), 1),
  };
}

/** What the kernel tells of a namespace. */
export function listen(
  netns: string,
  group: number,
  heard: (frame: ReturnType<typeof decodeFrames>[number]) => void,
): RawNetlinkSocket {
  const socket = openRouteSocket(netns, [group]);
  socket.on("message", (datagram) => {
    for (const frame of decodeFrames(datagram)) heard(frame);
  });
  return socket;
}
