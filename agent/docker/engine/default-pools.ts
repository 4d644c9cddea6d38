import type { NetworkRecord, SubnetRecord } from "../../../shared/cluster-state.ts";
import { Cidr, cidrContainsCidr, cidrOverlaps, partOf, prefixLength } from "../../../shared/ip.ts";

/** From where an engine takes the subnet of a network whose user gave none. */
export interface DefaultPool {
  readonly base: Cidr;
  readonly prefixLength: number;
}

/** Without `default-address-pools` (moby libnetwork/ipamutils/utils.go). */
export const BUILT_IN_POOLS: readonly DefaultPool[] = [
  ["172.17.0.0/16", 16],
  ["172.18.0.0/16", 16],
  ["172.19.0.0/16", 16],
  ["172.20.0.0/14", 16],
  ["172.24.0.0/14", 16],
  ["172.28.0.0/14", 16],
  ["192.168.0.0/16", 20],
].map(([base, length]) => ({ base: Cidr.parse(base), prefixLength: Number(length) }));

/**
 * An engine knows only the subnets that it gave out itself, so engines of several hosts choose the same. Of such
 * networks the later one gives way; a subnet that a user gave may be another network's too.
 * @returns the earlier network, and the subnet that the engine chose for this one; undefined: it can stay.
 */
export function chosenTwice(
  network: NetworkRecord,
  networks: readonly NetworkRecord[],
  pools: readonly DefaultPool[],
): { readonly subnet: Cidr; readonly other: NetworkRecord } | undefined {
  const earlier = networks.filter(({ vni }) => vni < network.vni);
  for (const held of network.subnets.filter((subnet) => isEnginesChoice(subnet, pools)))
    for (const other of earlier)
      if (other.subnets.some(({ subnet }) => cidrOverlaps(subnet, held.subnet)))
        return { subnet: held.subnet, other };
  return undefined;
}

/** Docker's own IPAM fills its lower half, and it is of the size and the place of those that the engine chooses. */
function isEnginesChoice(
  { subnet, dynamicRanges }: SubnetRecord,
  pools: readonly DefaultPool[],
): boolean {
  const [range, ...others] = dynamicRanges;
  return (
    others.length === 0 &&
    range === partOf(subnet, 1, 1) &&
    pools.some(
      ({ base, prefixLength: length }) =>
        length === prefixLength(subnet) && cidrContainsCidr(base, subnet),
    )
  );
}
