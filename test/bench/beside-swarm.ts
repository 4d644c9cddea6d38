import type { Lab } from "../lab/lab.ts";
import {
  arrivals,
  type Pair,
  type Quantiles,
  traffic,
  type TrafficRatios,
} from "./two-networks.ts";
import { formSwarm, type SpanningNetwork } from "./swarm.ts";

export interface SwarmEffort {
  readonly swarmRounds: number;
  readonly swarmPairs: number;
  readonly swarmSeconds: number;
}

export interface BesideSwarm extends TrafficRatios {
  readonly arrivals: Quantiles;
  readonly swarmArrivals: Quantiles;
}

/** Ours and Swarm's network on the same engines, in turn. */
export async function besideSwarm(
  lab: Lab,
  ours: SpanningNetwork,
  { swarmRounds, swarmPairs: pairs, swarmSeconds: seconds }: SwarmEffort,
  say: (text: string) => void,
): Promise<BesideSwarm> {
  say("the lab's engines as a Swarm");
  const networks: Pair<SpanningNetwork> = [ours, await formSwarm(lab)];
  say(`port to forwarding entry, ours and Swarm's in turn, ${swarmRounds} containers each`);
  const [here, there] = await arrivals(lab, networks, swarmRounds);
  say("TCP, small packets, round trip: ours and Swarm's in turn");
  const ratios = await traffic(lab, networks, { pairs, seconds });
  return { arrivals: here, swarmArrivals: there, ...ratios };
}

export function besideSwarmText(figures: BesideSwarm): string {
  const { arrivals: here, swarmArrivals: there, tcp, smallPackets, roundTrip } = figures;
  const three = ({ p50Ms, p90Ms, p99Ms }: Quantiles): string => [p50Ms, p90Ms, p99Ms].join(" ");
  const rows: [string, number | string, string][] = [
    ["port up to FDB entry, p50 p90 p99 ms", three(here), "<= 6, 40 (p50, p99)"],
    ["  the same, Swarm's overlay", three(there), ""],
    ["TCP, ours over Swarm's", tcp, ">= 1.0"],
    ["datagrams of 64 bytes a second, ours over Swarm's", smallPackets, ">= 1.0"],
    ["round trip, ours over Swarm's", roundTrip, "<= 1.0"],
  ];
  return rows
    .map(([what, value, goal]) =>
      `${what.padEnd(50)} ${String(value).padStart(16)}   ${goal}`.trimEnd(),
    )
    .join("\n");
}
