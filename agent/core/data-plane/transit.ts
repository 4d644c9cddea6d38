import {
  ADDRESS_BITS,
  Cidr,
  type Family,
  familyOf,
  type Ip,
  numberToIp,
  prefixLength,
  rangeOf,
} from "../../../shared/ip.ts";
import { type LinkAddress, type Route, defaultRoute, subnetOf, unreachableRoute } from "./inet.ts";
import type { InterfaceAddress, Transit } from "./kernel-state.ts";

/** What names of host's ends begin with. */
export const TRANSIT_LINKS = "ovt";

/** What addresses of transit are taken of: in no other use on this host. The same on all hosts, it may be. */
export interface TransitPools {
  readonly 4: Cidr;
  readonly 6: Cidr;
}

/** Of benchmarks (RFC 2544), which nobody routes; and of a unique local prefix (RFC 4193) that was drawn once. */
export const DEFAULT_TRANSIT_POOL = Cidr.parse("198.18.224.0/19");
const POOL6 = Cidr.parse("fd4c:9a17:e52b::/64");

export function transitPools(ipv4: Cidr): TransitPools {
  return { 4: ipv4, 6: POOL6 };
}

/** How many networks have room in it. */
export function slotsIn(pools: TransitPools): number {
  return 2 ** (ADDRESS_BITS[4] - prefixLength(pools[4]) - 1);
}

/** @param slot below `slotsIn`; no two networks of this host have the same */
export function transitOf(pools: TransitPools, slot: number, families: readonly Family[]): Transit {
  return {
    link: `${TRANSIT_LINKS}${slot}`,
    ends: families.map((family) => {
      const first = rangeOf(pools[family]).first + 2n * BigInt(slot);
      return { outside: numberToIp(first, family), inside: numberToIp(first + 1n, family) };
    }),
  };
}

export function isTransitLink(name: string): boolean {
  return /^ovt\d+$/.test(name);
}

export function endAddress(ip: Ip): InterfaceAddress {
  return { ip, prefixLength: ADDRESS_BITS[familyOf(ip)] - 1 };
}

/** What the network's namespace has beside its gateways, with the transit's end there by index. */
export function transitInet(
  { ends }: Transit,
  gateways: readonly InterfaceAddress[],
  link: number,
): { readonly addresses: readonly LinkAddress[]; readonly routes: readonly Route[] } {
  return {
    addresses: ends.map(({ inside }) => ({ ...endAddress(inside), link })),
    routes: [
      ...gateways.map((gateway) => unreachableRoute(subnetOf(gateway))),
      ...ends.map(({ outside }) => defaultRoute(outside, link)),
    ],
  };
}

export function transitKey(transit: Transit | undefined): string {
  if (transit === undefined) return "none";
  const ends = transit.ends.map(({ inside, outside }) => `${inside}-${outside}`);
  return [transit.link, ...ends.toSorted()].join(" ");
}
