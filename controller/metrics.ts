import { BOUNDS } from "../shared/bounds.ts";
import type { ClusterState, NetworkRecord } from "../shared/cluster-state.ts";
import type { NetworkId } from "../shared/ids.ts";
import { rangeOf } from "../shared/ip.ts";
import {
  by,
  counter,
  gauge,
  type MetricFamily,
  only,
  type Sample,
} from "../shared/metric-family.ts";
import type { ControllerRecord } from "./core/record.ts";
import type { RequestCount } from "./request-counts.ts";

/** What the controller's numbers are made of. */
export interface ControllerFacts {
  readonly record: ControllerRecord;
  /** Of all rows. */
  readonly bytes: number;
  readonly requests: readonly RequestCount[];
  /** It decides nothing, and its status says why. */
  readonly hasProblem: boolean;
  /** Undefined: never, as far as is known. */
  readonly backedUpAtMs: number | undefined;
  readonly nowMs: number;
  readonly residentBytes: number;
}

/** A cluster has up to 4,000 networks; those are shown that will need something first. */
const MOST_NETWORKS = 20;

/** Beside an agent's, in one answer: no name is in both. */
export function controllerFamilies(facts: ControllerFacts): MetricFamily[] {
  const { state, tokens } = facts.record;
  const valid = tokens.filter(({ expiresAtMs, usesLeft }) => {
    return expiresAtMs > facts.nowMs && usesLeft > 0;
  });
  return [
    gauge(
      "overlay_ts_controller_decides",
      "0: it decides nothing; `overlay-ts status` on its host says why.",
      only(!facts.hasProblem),
    ),
    gauge("overlay_ts_nodes", "Hosts of the cluster.", only(state.nodes.length)),
    gauge("overlay_ts_networks", "Networks of the cluster.", only(state.networks.length)),
    gauge("overlay_ts_blocks", "Blocks of addresses that hosts have.", only(state.blocks.length)),
    gauge(
      "overlay_ts_blocks_free_addresses",
      `Addresses of a network (of IPv4) that are in no host's block; of the ${MOST_NETWORKS} networks with the fewest.`,
      freeAddresses(state),
    ),
    gauge("overlay_ts_tokens", "Tokens that let somebody in still.", only(valid.length)),
    counter(
      "overlay_ts_requests_total",
      "Hosts' requests; `refused`: for a reason that the host was told, `failed`: for a fault of ours.",
      facts.requests.map(({ kind, result, count }) => ({ labels: { kind, result }, value: count })),
    ),
    gauge(
      "overlay_ts_state_bytes",
      "Of the cluster's state; no change is made that would have it grow over the bound.",
      by("what", { held: facts.bytes, most: BOUNDS.objectsBytes }),
    ),
    gauge(
      "overlay_ts_last_backup_time_seconds",
      "When `overlay-ts controller backup` ended here last, since 1970; 0: never.",
      only((facts.backedUpAtMs ?? 0) / 1000),
    ),
    gauge(
      "overlay_ts_controller_resident_memory_bytes",
      "Of the controller's process, with pages of files that others share (RSS).",
      only(facts.residentBytes),
    ),
  ];
}

function freeAddresses({ networks, blocks }: ClusterState): Sample[] {
  const held = new Map<NetworkId, number>();
  for (const { network, block } of blocks) {
    const { first, last, family } = rangeOf(block);
    if (family === 4) held.set(network, (held.get(network) ?? 0) + Number(last - first) + 1);
  }
  return networks
    .map((network) => ({ network, free: sizeOf(network) - (held.get(network.id) ?? 0) }))
    .toSorted((a, b) => a.free - b.free || (a.network.id < b.network.id ? -1 : 1))
    .slice(0, MOST_NETWORKS)
    .map(({ network: { id, name }, free }) => ({
      labels: { network: name ?? id },
      // Single addresses may be granted outside of the range that blocks come from.
      value: Math.max(0, free),
    }));
}

function sizeOf({ subnets }: NetworkRecord): number {
  return subnets
    .flatMap(({ dynamicRanges }) => dynamicRanges.map(rangeOf))
    .filter(({ family }) => family === 4)
    .reduce((sum, { first, last }) => sum + Number(last - first) + 1, 0);
}
