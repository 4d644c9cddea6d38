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
export const ROUTE = { unicast: 1, local: 2, broadcast: 3, unreachable: 7 } as const;

/** What the kernel gives a route to an address's subnet: IPv6's is IP6_RT_PRIO_ADDRCONF (net/ipv6_route.h). */
const METRIC = { 4: 0, 6: 256 } as const;
/** Behind any that the kernel makes. */
const BEHIND = 4096;

export interface Route {
  readonly table: number;
  readonly type: number;
  readonly to: Cidr;
  /** Index of the link; 0 for none, and where the kernel names one of its own. */
  readonly link: number;
  /** The next hop; undefined: none. */
  readonly via: Ip | undefined;
  /** One of several ways: none of ours. */
  readonly multipath: boolean;
  readonly metric: number;
}

/** An address of a link, by its index. */
export interface LinkAddress extends InterfaceAddress {
  readonly link: number;
}

export interface Rule {
  readonly priority: number;
  /** 0: it does something else than to look a table up. */
  readonly table: number;
  /** For all packets. */
  readonly plain: boolean;
}

/** IPv4 of a namespace of ours. */
export interface Inet {
  readonly addresses: readonly LinkAddress[];
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
 * As it should be with these addresses, and routes beside those that come with them; what the kernel adds for
 * broadcasts is not asked for.
 */
export function desiredInet(addresses: readonly LinkAddress[], more: readonly Route[] = []): Inet {
  return { addresses, routes: [...addresses.flatMap(routesWith), ...more], rules: RULES };
}

/** What the kernel makes with an address, of either family: to itself, and to its subnet. */
export function routesWith(address: LinkAddress): Route[] {
  const way = { link: address.link, via: undefined, multipath: false };
  const { local, main } = TABLE;
  const metric = METRIC[familyOf(address.ip)];
  return [
    { table: local, type: ROUTE.local, to: hostCidr(address.ip), ...way, metric: 0 },
    { table: main, type: ROUTE.unicast, to: subnetOf(address), ...way, metric },
  ];
}

/** To all that has no route of its own. */
export function defaultRoute(via: Ip, link: number): Route {
  const to = toCidr(0n, 0, familyOf(via));
  const { main: table } = TABLE;
  return { table, type: ROUTE.unicast, to, link, via, multipath: false, metric: BEHIND };
}

/** To nowhere, when the subnet's own route is away: no default route gets what was for it. */
export function unreachableRoute(to: Cidr): Route {
  const { main: table } = TABLE;
  return {
    table,
    type: ROUTE.unreachable,
    to,
    link: 0,
    via: undefined,
    multipath: false,
    metric: BEHIND,
  };
}

/**
 * Of IPv6 those alone are asked for that should be there: the kernel has others by itself, for link-local addresses
 * and multicast.
 */
export function missingRoutes(actual: readonly Route[], wanted: readonly Route[]): Route[] {
  return without(wanted, actual, routeKey);
}

export const missingRouteText = ({ to }: Route): string => `its route to ${to} is missing`;

export interface InetDifference<A = LinkAddress, R = Route, L = Rule> {
  readonly missing: Inet;
  /** Somebody else's, which lead elsewhere. */
  readonly strays: {
    readonly addresses: readonly A[];
    readonly routes: readonly R[];
    readonly rules: readonly L[];
  };
}

/** Nothing may be there beside what is desired: a route that is more exact would take packets away. */
export function inetDifference<A extends LinkAddress, R extends Route, L extends Rule>(
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
    ...missing.addresses.map((address) => `its address ${addressText(address)} is missing`),
    ...missing.routes.map(missingRouteText),
    ...missing.rules.map((rule) => `its routing rule ${rule.priority} is missing`),
    ...strays.addresses.map((address) => `there is an address ${addressText(address)}, not ours`),
    ...strays.routes.map(({ to }) => `there is a route to ${to}, not ours`),
    ...strays.rules.map((rule) => `there is a routing rule ${rule.priority}, not ours`),
  ];
}

function without<T, U>(all: readonly T[], held: readonly U[], key: (one: T | U) => string): T[] {
  const keys = new Set(held.map(key));
  return all.filter((one) => !keys.has(key(one)));
}

export function subnetOf({ ip, prefixLength }: InterfaceAddress): Cidr {
  const family = familyOf(ip);
  const size = 1n << BigInt(ADDRESS_BITS[family] - prefixLength);
  return toCidr(ipToNumber(ip) & ~(size - 1n), prefixLength, family);
}

function isLoopback(to: Cidr): boolean {
  return to.startsWith("127.");
}

function addressText({ ip, prefixLength }: InterfaceAddress): string {
  return `${ip}/${prefixLength}`;
}

function addressKey(address: LinkAddress): string {
  return `${address.link} ${addressText(address)}`;
}

function routeKey({ table, type, to, link, via, multipath, metric }: Route): string {
  return JSON.stringify([table, type, to, link, via, multipath, metric]);
}

function ruleKey({ priority, table, plain }: Rule): string {
  return JSON.stringify([priority, table, plain]);
}
