import { setTimeout as delay } from "node:timers/promises";
import type { RawNetlinkSocket } from "netlink";
import { decodeNeighbour } from "../../agent/kernel/netlink/neighbour.ts";
import { decodeLink, RTNLGRP } from "../../agent/kernel/netlink/route.ts";
import { IMAGE, type Lab } from "../lab/lab.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { containerEnd, type End, iperf, tcpGbits } from "./ends.ts";
import { listen } from "./propagation.ts";
import { median, quantile, round } from "./statistics.ts";
import type { SpanningNetwork } from "./swarm.ts";

const RTM_NEWLINK = 16;
const RTM_NEWNEIGH = 28;
const AF_BRIDGE = 7;

/** In turn, one of the one and one of the other, so that both have the same machine. */
export type Pair<T> = readonly [T, T];

export interface Quantiles {
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
}

/**
 * From a container's port being up on its host's bridge until the last of the other hosts has its forwarding entry,
 * on either network: both as the kernels tell it, by one clock.
 */
export async function arrivals(
  lab: Lab,
  networks: Pair<SpanningNetwork>,
  rounds: number,
): Promise<Pair<Quantiles>> {
  const watches = networks.map((network) => new ForwardingWatch(lab, network));
  const delays: [number[], number[]] = [[], []];
  try {
    for (let i = 0; i < rounds; i++)
      for (const k of [0, 1] as const) delays[k].push(await watches[k]!.next());
  } finally {
    for (const watch of watches) watch.close();
  }
  return [quantilesOf(delays[0]), quantilesOf(delays[1])];
}

function quantilesOf(delaysMs: readonly number[]): Quantiles {
  const at = (q: number): number => round(quantile(delaysMs, q), 1);
  return { p50Ms: at(0.5), p90Ms: at(0.9), p99Ms: at(0.99) };
}

class ForwardingWatch {
  readonly #network: SpanningNetwork;
  readonly #from: LabHost;
  readonly #sockets: RawNetlinkSocket[];
  /** When a port came up; undefined: none since it was asked for. */
  #upMs: number | undefined;
  readonly #seenMs: Map<string, number>[];

  constructor(lab: Lab, network: SpanningNetwork) {
    const [from, ...others] = lab.hosts;
    if (from === undefined) throw new Error("no host");
    this.#network = network;
    this.#from = from;
    this.#seenMs = others.map(() => new Map());
    this.#sockets = [
      listen(network.netns(from), RTNLGRP.link, (frame) => {
        if (frame.type !== RTM_NEWLINK) return;
        const { kind, up, master } = decodeLink(frame);
        if (kind === "veth" && up && master !== 0) this.#upMs ??= performance.now();
      }),
      ...others.map((host, i) =>
        listen(network.netns(host), RTNLGRP.neigh, (frame) => {
          if (frame.type !== RTM_NEWNEIGH || frame.payload.readUInt8(0) !== AF_BRIDGE) return;
          const { mac, master } = decodeNeighbour(frame);
          const seen = this.#seenMs[i];
          if (mac !== undefined && !master && seen?.has(mac) === false)
            seen.set(mac, performance.now());
        }),
      ),
    ];
  }

  /** One container's, in milliseconds. */
  async next(): Promise<number> {
    for (const seen of this.#seenMs) seen.clear();
    this.#upMs = undefined;
    const { name } = this.#network;
    const run = ["run", "-d", "--network", name, IMAGE, "/bin/sleep", "100000"];
    const container = (await this.#from.docker(...run)).trim();
    const format = `{{(index .NetworkSettings.Networks "${name}").MacAddress}}`;
    const mac = (await this.#from.docker("inspect", "-f", format, container)).trim();
    try {
      return await eventually(20_000, `${name}: the entries of ${mac}`, async () => {
        const arrived = this.#seenMs.map((seen) => seen.get(mac));
        if (this.#upMs === undefined || arrived.includes(undefined)) throw new Error("not yet");
        return Math.max(0, ...arrived.map((atMs) => (atMs ?? 0) - (this.#upMs ?? 0)));
      });
    } finally {
      await this.#from.docker("rm", "-f", container);
      // What went is told, too, and not counted for the next.
      await delay(100);
    }
  }

  close(): void {
    for (const socket of this.#sockets) socket.close();
  }
}

/** The first network's over the second's: medians of neighbouring runs' ratios. */
export interface TrafficRatios {
  readonly tcp: number;
  /** Datagrams of 64 bytes that arrived in a second. */
  readonly smallPackets: number;
  readonly roundTrip: number;
}

/** Two containers on two hosts, on either network. */
export async function traffic(
  lab: Lab,
  networks: Pair<SpanningNetwork>,
  { pairs, seconds }: { readonly pairs: number; readonly seconds: number },
): Promise<TrafficRatios> {
  const [a, b] = lab.hosts;
  if (a === undefined || b === undefined) throw new Error("two hosts are needed");
  const ends = await Promise.all(
    networks.map(({ name }) =>
      Promise.all([a, b].map((host) => containerEnd(host, name, `end-${name}`))),
    ),
  );
  const [ours, theirs] = ends as [[End, End], [End, End]];
  const ratios: Record<keyof TrafficRatios, number[]> = {
    tcp: [],
    smallPackets: [],
    roundTrip: [],
  };
  try {
    for (let i = 0; i < pairs; i++)
      for (const [what, measure] of Object.entries(MEASURES) as [keyof TrafficRatios, Measure][]) {
        const first = await measure(ours, seconds);
        ratios[what].push(first / (await measure(theirs, seconds)));
      }
  } finally {
    for (const host of [a, b])
      for (const { name } of networks) await host.docker("rm", "-f", `end-${name}`).catch(() => {});
  }
  return {
    tcp: round(median(ratios.tcp)),
    smallPackets: round(median(ratios.smallPackets)),
    roundTrip: round(median(ratios.roundTrip)),
  };
}

type Measure = (ends: readonly [End, End], seconds: number) => Promise<number>;

const MEASURES: Record<keyof TrafficRatios, Measure> = {
  tcp: tcpGbits,
  smallPackets: async (ends, seconds) => {
    const { sum } = await iperf(ends, seconds, "-u", "-b", "0", "-l", "64");
    return sum === undefined ? Number.NaN : (sum.packets - sum.lost_packets) / sum.seconds;
  },
  roundTrip: async ([client, server], seconds) => {
    const count = String(seconds * 200);
    const text = await client.host.exec(
      ...client.enter,
      "ping",
      "-nq",
      "-i0.005",
      `-c${count}`,
      server.address,
    );
    return Number(/= [\d.]+\/([\d.]+)\//.exec(text)?.[1] ?? Number.NaN);
  },
};
