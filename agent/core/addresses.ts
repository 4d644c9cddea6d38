import type { BlockRecord, SubnetRecord } from "../../shared/cluster-state.ts";
import type { NodeId } from "../../shared/ids.ts";
import { cidrContainsCidr, type Ip, ipToNumber, numberToIp, rangeOf } from "../../shared/ip.ts";

/**
 * Which address the next container here gets: next-fit through this host's blocks, so that an
 * address just freed is the last to come again (peers and caches may still mean its last holder).
 */
export function nextAddress(
  self: NodeId,
  subnet: SubnetRecord,
  blocks: readonly BlockRecord[],
  used: ReadonlySet<Ip>,
  last: Ip | undefined,
): Ip | undefined {
  const ranges = ownRanges(self, subnet, blocks);
  const after = last === undefined ? -1n : ipToNumber(last);
  return (
    firstFree(ranges, subnet, used, (value) => value > after) ??
    firstFree(ranges, subnet, used, (value) => value <= after)
  );
}

/** Addresses of own dynamic blocks that nobody uses: few left, and it is time to ask for more. */
export function freeAddresses(
  self: NodeId,
  subnet: SubnetRecord,
  blocks: readonly BlockRecord[],
  used: ReadonlySet<Ip>,
): { free: number; total: number } {
  let total = 0;
  let free = 0;
  for (const { first, last, family } of ownRanges(self, subnet, blocks))
    for (let value = first; value <= last; value++) {
      if (isReserved(subnet, value)) continue;
      total++;
      if (!used.has(numberToIp(value, family))) free++;
    }
  return { free, total };
}

/** Blocks given by range; a single granted address (`--ip`) is for who asked for it. */
function ownRanges(self: NodeId, subnet: SubnetRecord, blocks: readonly BlockRecord[]) {
  return blocks
    .filter(
      ({ node, block }) =>
        node === self && subnet.dynamicRanges.some((range) => cidrContainsCidr(range, block)),
    )
    .map(({ block }) => rangeOf(block))
    .toSorted((a, b) => (a.first < b.first ? -1 : 1));
}

function firstFree(
  ranges: ReturnType<typeof ownRanges>,
  subnet: SubnetRecord,
  used: ReadonlySet<Ip>,
  wanted: (value: bigint) => boolean,
): Ip | undefined {
  for (const { first, last, family } of ranges)
    for (let value = first; value <= last; value++) {
      if (!wanted(value) || isReserved(subnet, value)) continue;
      const ip = numberToIp(value, family);
      if (!used.has(ip)) return ip;
    }
  return undefined;
}

/** Network and broadcast address, the gateway's, and what the user keeps for something else. */
export function isReserved(
  { subnet, gateway, reserved = [] }: SubnetRecord,
  value: bigint,
): boolean {
  const { first, last, family } = rangeOf(subnet);
  if (value === first || (family === 4 && value === last)) return true;
  return [gateway, ...reserved].some((ip) => ipToNumber(ip) === value);
}
