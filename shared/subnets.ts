import type { ClusterState } from "./cluster-state.ts";
import { OverlayError } from "./errors.ts";
import { type Cidr, cidrOverlaps, partOf, prefixLength } from "./ip.ts";
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
 * A random free subnet of the pools: two hosts that choose at once rarely choose the same, and the
 * controller refuses the second. @throws FULL
 */
export function freeSubnet(state: ClusterState, random: Random): Cidr {
  const taken = [
    ...reservedSubnets(state),
    ...state.networks.flatMap(({ subnets }) => subnets.map(({ subnet }) => subnet)),
  ];
  for (const { base, prefixLength: length } of state.settings.defaultPools) {
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
    message: "no subnet is left in the cluster's pools",
    next: "give one with --subnet, or remove networks that are no longer used",
  });
}
