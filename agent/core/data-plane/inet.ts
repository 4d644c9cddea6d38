import {
  ADDRESS_BITS,
  type Cidr,
  familyOf,
  hostCidr,
  type Ip,
  ipToNumber,
  toCidr,
} from "../../../shared/ip.ts";
import type { InterfaceAddress } from "./kernel-state.ts";

/** Numbers of linux/rtnetlink.h: tables, and types of routes. */
export const TABLE = { default: 253, main: 254, local: 255 } as const;
export const ROUTE = { unicast: 1, local: 2, broadcast: 3 } as const;

export interface Route {
  readonly table: number;
  readonly type: number;
  readonly to: Cidr;
  /** Index of the link, 0 for none. */
  readonly link: number;
  /** Through another host, or one of several ways: none of ours. */
  readonly indirect: boolean;
}

export interface Rule {
  readonly priority: number;
  /** 0: it does something else than to look a table up. */
  readonly table: number;
  /** For all packets. */
  readonly plain: boolean;
}

/** IPv4 of a namespace in which one link has an address. */
export interface Inet {
  readonly addresses: readonly InterfaceAddress[];
  readonly routes: readonly Route[];
  readonly rules: readonly Rule[];
}

/** What a namespace has from its beginning (net/ipv6/fib6_rules.c, fib6_rules_net_init). */
const RULES6: readonly Rule[] = [
  { priority: 0, table: TABLE.local, plain: true },
  { priority: 32_766, table: TABLE.main, plain: true },
];

/** The same of IPv4 (net/ipv4/fib_rules.c, fib_default_rules_init). */
const RULES: readonly Rule[] = [...RULES6, { priority: 32_767, table: TABLE.default, plain: true }];

/**
 * As it should be with one address, or none, on the link; what the kernel adds for broadcasts is not asked for.
 */
export function desiredInet(link: number, address: InterfaceAddress | undefined): Inet {
  if (address === undefined) return { addresses: [], routes: [], rules: RULES };
  return { addresses: [address], routes: routesWith(link, address), rules: RULES };
}

/** What the kernel makes with an address, of either family: to itself, and to its subnet. */
function routesWith(link: number, address: InterfaceAddress): Route[] {
  const way = { link, indirect: false };
  return [
    { table: TABLE.local, type: ROUTE.local, to: hostCidr(address.ip), ...way },
    { table: TABLE.main, type: ROUTE.unicast, to: subnetOf(address), ...way },
  ];
}

/**
 * Routes of an address that are away. Of IPv6 nothing more is asked: the kernel has others there by itself, for
 * link-local addresses and multicast.
 */
export function missingRoutes(
  actual: readonly Route[],
  link: number,
  address: InterfaceAddress,
): Route[] {
  const keys = new Set(actual.map(routeKey));
  return routesWith(link, address).filter((route) => !keys.has(routeKey(route)));
}

export const missingRouteText = ({ to }: Route): string => `its route to ${to} is missing`;

export interface InetDifference<A = InterfaceAddress, R = Route, L = Rule> {
  readonly missing: Inet;
  /** Somebody else's, which lead elsewhere. */
  readonly strays: {
    readonly addresses: readonly A[];
    readonly routes: readonly R[];
    readonly rules: readonly L[];
  };
}

/** Nothing may be there beside what is desired: a route that is more exact would take packets away. */
export function inetDifference<A extends InterfaceAddress, R extends Route, L extends Rule>(
  actual: { addresses: readonly A[]; routes: readonly R[]; rules: readonly L[] },
  desired: Inet,
): InetDifference<A, R, L> {
  const routes = actual.routes.filter(
    ({ type, to }) => type !== ROUTE.broadcast && !isLoopback(to),
  );
  return {
    missing: {
      addresses: without(desired.addresses, actual.addresses, addressKey),
      routes: without(desired.routes, actual.routes, routeKey),
      rules: without(desired.rules, actual.rules, ruleKey),
    },
    strays: {
      addresses: without(actual.addresses, desired.addresses, addressKey),
      routes: without(routes, desired.routes, routeKey),
      rules: without(actual.rules, desired.rules, ruleKey),
    },
  };
}

/** Of IPv6 rules. A stray one comes before routes that are there. */
export function ruleDifference6<L extends Rule>(
  actual: readonly L[],
): { readonly missing: readonly Rule[]; readonly strays: readonly L[] } {
  return {
    missing: without(RULES6, actual, ruleKey),
    strays: without(actual, RULES6, ruleKey),
  };
}

export function ruleFaults6({ missing, strays }: ReturnType<typeof ruleDifference6>): string[] {
  return [
    ...missing.map(({ priority }) => `its routing rule ${priority} of IPv6 is missing`),
    ...strays.map(({ priority }) => `there is a routing rule ${priority} of IPv6, not ours`),
  ];
}

/** For who reads `verify`. */
export function inetFaults({ missing, strays }: InetDifference): string[] {
  return [
    ...missing.addresses.map((address) => `its address ${addressKey(address)} is missing`),
    ...missing.routes.map(missingRouteText),
    ...missing.rules.map((rule) => `its routing rule ${rule.priority} is missing`),
    ...strays.addresses.map((address) => `there is an address ${addressKey(address)}, not ours`),
    ...strays.routes.map(({ to }) => `there is a route to ${to}, not ours`),
    ...strays.rules.map((rule) => `there is a routing rule ${rule.priority}, not ours`),
  ];
}

function without<T, U>(all: readonly T[], held: readonly U[], key: (one: T | U) => string): T[] {
  const keys = new Set(held.map(key));
  return all.filter((one) => !keys.has(key(one)));
}

function subnetOf({ ip, prefixLength }: InterfaceAddress): Cidr {
  const family = familyOf(ip);
  const size = 1n << BigInt(ADDRESS_BITS[family] - prefixLength);
  return toCidr(ipToNumber(ip) & ~(size - 1n), prefixLength, family);
}

function isLoopback(to: Cidr): boolean {
  return to.startsWith("127.");
}

function addressKey({ ip, prefixLength }: { ip: Ip; prefixLength: number }): string {
  return `${ip}/${prefixLength}`;
}

function routeKey({ table, type, to, link, indirect }: Route): string {
  return JSON.stringify([table, type, to, link, indirect]);
}

function ruleKey({ priority, table, plain }: Rule): string {
  return JSON.stringify([priority, table, plain]);
}
