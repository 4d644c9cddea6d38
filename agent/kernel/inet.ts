import { setTimeout as delay } from "node:timers/promises";
import { type Family, familyOf } from "../../shared/ip.ts";
import {
  desiredInet,
  type Inet,
  type InetDifference,
  inetDifference,
  inetFaults,
  type LinkAddress,
  missingRoutes,
  missingRouteText,
  type Route,
  routesWith,
  ruleDifference6,
  ruleFaults6,
} from "../core/data-plane/inet.ts";
import { deleteAtOnce } from "./netlink/deletions.ts";
import { addressesOf } from "./netlink/dumps.ts";
import * as route from "./netlink/route.ts";
import * as routing from "./netlink/routing.ts";
import type { Request, RtNetlink } from "./netlink/socket.ts";

/** Addresses, routes and rules of a namespace of ours: what is sent there goes by these, and by no others. */
export interface NamespaceInet {
  /** Of ours: on none of them is another address. */
  readonly links: readonly number[];
  readonly addresses: readonly LinkAddress[];
  /** Beside those that come with the addresses. */
  readonly routes?: readonly Route[];
}

/** With one link that has an address, or none. */
export function loneLink(
  link: number,
  address: Omit<LinkAddress, "link"> | undefined,
): NamespaceInet {
  return { links: [link], addresses: address === undefined ? [] : [{ ...address, link }] };
}

/** IPv4 as it should be; whatever else is there goes. */
export async function mendInet(socket: RtNetlink, wanted: NamespaceInet): Promise<void> {
  const first = await difference(socket, wanted);
  await socket.batch([
    ...first.strays.addresses.map(withoutAddress),
    ...first.missing.addresses.map(({ link, ip, prefixLength }) =>
      route.addAddress(link, ip, prefixLength),
    ),
  ]);
  // Routes come and go with addresses.
  const rest = await difference(socket, wanted);
  await socket.batch([
    ...rest.missing.routes.map((lost) => putBack(lost, wanted)),
    ...rest.missing.rules.map((rule) => routing.putRule(rule, 4)),
  ]);
  await deleteAtOnce(socket, [
    ...rest.strays.routes.map(routing.deleteRoute),
    ...rest.strays.rules.map(routing.deleteRule),
  ]);
}

function putBack(lost: Route, { addresses, routes = [] }: NamespaceInet): Request {
  const source = addresses.find(({ link }) => link === lost.link)?.ip;
  return routes.includes(lost) || source === undefined
    ? routing.putRoute(lost)
    : routing.putConnected(lost, source);
}

/**
 * Rules, addresses and their routes, which the kernel makes with the address: so it is made anew. Other routes are let
 * be: the kernel has some by itself.
 */
export async function mendInet6(socket: RtNetlink, wanted: NamespaceInet): Promise<void> {
  const addresses = ofFamily(6, wanted.addresses);
  if (addresses.length === 0) return;
  const rules = await rules6(socket);
  await socket.batch(rules.missing.map((rule) => routing.putRule(rule, 6)));
  await deleteAtOnce(socket, rules.strays.map(routing.deleteRule));
  const held = ofFamily(6, await heldOn(socket, wanted.links));
  const stays = (address: LinkAddress): boolean =>
    addresses.some(({ link, ip }) => link === address.link && ip === address.ip);
  await socket.batch(held.filter((address) => !stays(address)).map(withoutAddress));
  for (const address of addresses) {
    const isThere = held.some(({ link, ip }) => link === address.link && ip === address.ip);
    if (isThere && (await lostRoutes6(socket, routesWith(address))).length === 0) continue;
    const { link, ip, prefixLength } = address;
    await socket.batch([
      ...(isThere ? [withoutAddress(address)] : []),
      route.addAddress(link, ip, prefixLength),
    ]);
  }
  const more = ofFamily(6, wanted.routes ?? []);
  const lost = more.length === 0 ? [] : missingRoutes(await routes6(socket), more);
  await socket.batch(lost.map(routing.putRoute));
}

/** What `mendInet6` would mend, in words. */
export async function inetFaults6(
  socket: Pick<RtNetlink, "dump">,
  { addresses, routes = [] }: NamespaceInet,
): Promise<string[]> {
  const wanted = [...ofFamily(6, addresses).flatMap(routesWith), ...ofFamily(6, routes)];
  if (wanted.length === 0) return [];
  return [
    ...ruleFaults6(await rules6(socket)),
    ...(await lostRoutes6(socket, wanted)).map(missingRouteText),
  ];
}

/** What `mendInet` would mend, in words. */
export async function inetFaultsOf(socket: RtNetlink, wanted: NamespaceInet): Promise<string[]> {
  return inetFaults(await difference(socket, wanted));
}

async function rules6(socket: Pick<RtNetlink, "dump">) {
  return ruleDifference6((await socket.dump(routing.dumpRules6)).map(routing.decodeRule));
}

async function routes6(socket: Pick<RtNetlink, "dump">): Promise<Route[]> {
  return (await socket.dump(routing.dumpRoutes6)).map(routing.decodeRoute);
}

/** Pauses between looks, in milliseconds. */
const LOOK_AGAIN_MS = [1, 4, 20, 100, 400];

/**
 * When a link or an address comes up the kernel makes them on a work queue (addrconf_dad_work), a moment after the
 * call has returned: they are lost only when they do not come.
 */
async function lostRoutes6(
  socket: Pick<RtNetlink, "dump">,
  wanted: readonly Route[],
): Promise<Route[]> {
  let lost = missingRoutes(await routes6(socket), wanted);
  for (const pause of LOOK_AGAIN_MS) {
    if (lost.length === 0) break;
    await delay(pause);
    lost = missingRoutes(await routes6(socket), wanted);
  }
  return lost;
}

async function difference(
  socket: RtNetlink,
  { links, addresses, routes = [] }: NamespaceInet,
): Promise<
  InetDifference<
    LinkAddress,
    ReturnType<typeof routing.decodeRoute>,
    ReturnType<typeof routing.decodeRule>
  >
> {
  const actual = {
    addresses: ofFamily(4, await heldOn(socket, links)),
    routes: (await socket.dump(routing.dumpRoutes)).map(routing.decodeRoute),
    rules: (await socket.dump(routing.dumpRules)).map(routing.decodeRule),
  };
  const wanted: Inet = desiredInet(ofFamily(4, addresses), ofFamily(4, routes));
  return inetDifference(actual, wanted);
}

async function heldOn(socket: RtNetlink, links: readonly number[]): Promise<LinkAddress[]> {
  const at = await addressesOf(socket);
  return links.flatMap((link) => at(link).map((address) => ({ ...address, link })));
}

function withoutAddress({ link, ip, prefixLength }: LinkAddress): Request {
  return route.deleteAddress(link, ip, prefixLength);
}

function ofFamily<T extends { ip: LinkAddress["ip"] } | Route>(
  family: Family,
  all: readonly T[],
): T[] {
  return all.filter((one) => familyOf("ip" in one ? one.ip : one.to) === family);
}
