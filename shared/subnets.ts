import type { ClusterState, SubnetRecord } from "./cluster-state.ts";
import { OverlayError } from "./errors.ts";
import {
  ADDRESS_BITS,
  Cidr,
  cidrContainsCidr,
  cidrOverlaps,
  type Family,
  familyOf,
  partOf,
  prefixLength,
} from "./ip.ts";
import type { Random } from "./ports.ts";

/** What no network may overlap: the hosts' own subnets, docker_gwbridge, the data-path proof. */
export function reservedSubnets(state: ClusterState): Cidr[] {
  return [
    ...state.nodes.flatMap((node) => node.ownSubnets),
    state.settings.gwbridgeSubnet,
    state.settings.proofSubnet,
  ];
}

/**
 * What Docker's own IPAM hands out on the host that made the network: that host's for good, while
 * blocks of the dynamic ranges and addresses given one by one come and go.
 */
export function isDockersPart(subnets: readonly SubnetRecord[], block: Cidr): boolean {
  const single = prefixLength(block) === ADDRESS_BITS[familyOf(block)];
  const ranges = subnets.flatMap(({ dynamicRanges }) => dynamicRanges);
  return !single && !ranges.some((range) => cidrContainsCidr(range, block));
}

/**
 * A random free subnet of the pools: two hosts that choose at once rarely choose the same, and the
 * controller refuses the second. @throws FULL
 */
export function freeSubnet(state: ClusterState, random: Random, family: Family): Cidr {
  const taken = [
    ...reservedSubnets(state),
    ...state.networks.flatMap(({ subnets }) => subnets.map(({ subnet }) => subnet)),
  ];
  const pools = family === 4 ? state.settings.defaultPools : [uniqueLocalPool(state)];
  for (const { base, prefixLength: length } of pools) {
    const bits = length - prefixLength(base);
    const count = 2 ** bits;
    const start = random.below(count);
    for (let i = 0; i < count; i++) {
      const candidate = partOf(base, bits, (start + i) % count);
      if (!taken.some((other) => cidrOverlaps(other, candidate))) return candidate;
    }
  }
  throw new OverlayError({
    code: "FULL",
    message: `no IPv${family} subnet is left in the cluster's pools`,
    next: "give one with --subnet, or remove networks that are no longer used",
  });
}

/** The cluster's own /48 of unique local addresses (RFC 4193, 3.2): 40 bits of its random id. */
function uniqueLocalPool({ cluster }: ClusterState): { base: Cidr; prefixLength: number } {
  const base = `fd${cluster.slice(0, 2)}:${cluster.slice(2, 6)}:${cluster.slice(6, 10)}::/48`;
  return { base: Cidr.parse(base), prefixLength: 64 };
}
