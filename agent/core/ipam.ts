import type { BlockRecord, SubnetRecord } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import {
  cidrContains,
  cidrContainsCidr,
  familyOf,
  type Ip,
  ipToNumber,
  numberToIp,
  rangeOf,
} from "../../shared/ip.ts";

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

export interface AddressesLeft {
  readonly free: number;
  readonly total: number;
}

/** Addresses of own dynamic blocks that nobody uses: few left, and it is time to ask for more. */
export function freeAddresses(
  self: NodeId,
  subnet: SubnetRecord,
  blocks: readonly BlockRecord[],
  used: ReadonlySet<Ip>,
): AddressesLeft {
  const ranges = ownRanges(self, subnet, blocks);
  const { first, last, family } = rangeOf(subnet.subnet);
  const edges = family === 4 ? [first, last] : [first];
  const kept = [subnet.gateway, ...(subnet.reserved ?? [])].map(ipToNumber);
  const reserved = new Set([...edges, ...kept]);
  const inside = (value: bigint): boolean =>
    ranges.some((range) => range.first <= value && value <= range.last);
  const size = ranges.reduce((sum, range) => sum + Number(range.last - range.first) + 1, 0);
  const total = size - [...reserved].filter(inside).length;
  // Counted by what is used: as many as containers, not as many as the blocks have addresses.
  const taken = [...used].filter((ip) => {
    const value = ipToNumber(ip);
    return familyOf(ip) === family && inside(value) && !reserved.has(value);
  });
  return { free: total - taken.length, total };
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

/** Network and broadcast address, the gateway's, and what `--aux-address` keeps. */
export function isReserved({ subnet, gateway, reserved }: SubnetRecord, value: bigint): boolean {
  const { first, last, family } = rangeOf(subnet);
  if (value === first || (family === 4 && value === last)) return true;
  return value === ipToNumber(gateway) || reserved?.some((ip) => ipToNumber(ip) === value) === true;
}

/** What is known of a subnet when an address of it is asked for: no gateway yet before the network. */
type KnownSubnet = Pick<SubnetRecord, "subnet"> &
  Partial<Pick<SubnetRecord, "gateway" | "reserved">>;

/** The address, if a host can have it there. @throws INVALID with what it is instead. */
export function checkHostAddress(known: KnownSubnet, ip: Ip): Ip {
  const fault = faultOf(known, ip);
  if (fault === undefined) return ip;
  throw new OverlayError({
    code: "INVALID",
    message: `${ip} cannot be used on ${known.subnet}: it ${fault}`,
    next: "choose another address, or let overlay-ts choose",
  });
}

function faultOf({ subnet, gateway, reserved }: KnownSubnet, ip: Ip): string | undefined {
  const { first, last, family } = rangeOf(subnet);
  if (!cidrContains(subnet, ip)) return "lies outside";
  if (ipToNumber(ip) === first) return "is the subnet's own address";
  if (family === 4 && ipToNumber(ip) === last) return "is the broadcast address";
  if (ip === gateway) return "is the gateway's";
  if (reserved?.includes(ip) === true) return "is reserved (--aux-address)";
  return undefined;
}
