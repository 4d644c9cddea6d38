import { setTimeout as delay } from "node:timers/promises";
import { familyOf } from "../../../shared/ip.ts";
import type { InterfaceAddress } from "../../core/data-plane/kernel-state.ts";
import {
  desiredInet,
  type InetDifference,
  inetDifference,
  inetFaults,
  missingRoutes,
  missingRouteText,
  type Route,
  ruleDifference6,
  ruleFaults6,
} from "../../core/data-plane/inet.ts";
import { deleteAtOnce } from "../netlink/deletions.ts";
import { addressesOf } from "../netlink/dumps.ts";
import * as route from "../netlink/route.ts";
import * as routing from "../netlink/routing.ts";
import type { RtNetlink } from "../netlink/socket.ts";

/** IPv4 of a namespace where one link of ours has an address, or none: what leaves it, leaves through that. */

/** Address, routes and rules as they are made with the link; whatever else is there goes. */
export async function mendInet(
  socket: RtNetlink,
  link: number,
  address: InterfaceAddress | undefined,
): Promise<void> {
  const first = await difference(socket, link, address);
  await socket.batch([
    ...first.strays.addresses.map(({ ip, prefixLength }) =>
      route.deleteAddress(link, ip, prefixLength),
    ),
    ...first.missing.addresses.map(({ ip, prefixLength }) =>
      route.addAddress(link, ip, prefixLength),
    ),
  ]);
  // Routes come and go with addresses.
  const rest = await difference(socket, link, address);
  const { routes } = rest.missing;
  await socket.batch([
    ...(address === undefined ? [] : routes.map((lost) => routing.putRoute(lost, address.ip))),
    ...rest.missing.rules.map((rule) => routing.putRule(rule, 4)),
  ]);
  await deleteAtOnce(socket, [
    ...rest.strays.routes.map(routing.deleteRoute),
    ...rest.strays.rules.map(routing.deleteRule),
  ]);
}

/**
 * Rules, and the routes of an IPv6 address that is there: the kernel makes them with it, so it is made anew. Other
 * routes are let be: the kernel has some by itself.
 */
export async function mendInet6(
  socket: RtNetlink,
  link: number,
  address: InterfaceAddress,
): Promise<void> {
  const rules = await rules6(socket);
  await socket.batch(rules.missing.map((rule) => routing.putRule(rule, 6)));
  await deleteAtOnce(socket, rules.strays.map(routing.deleteRule));
  if ((await lostRoutes6(socket, link, address)).length === 0) return;
  const { ip, prefixLength } = address;
  await socket.batch([
    route.deleteAddress(link, ip, prefixLength),
    route.addAddress(link, ip, prefixLength),
  ]);
}

/** What `mendInet6` would mend, in words. */
export async function inetFaults6(
  socket: Pick<RtNetlink, "dump">,
  link: number,
  address: InterfaceAddress,
): Promise<string[]> {
  return [
    ...ruleFaults6(await rules6(socket)),
    ...(await lostRoutes6(socket, link, address)).map(missingRouteText),
  ];
}

async function rules6(socket: Pick<RtNetlink, "dump">) {
  return ruleDifference6((await socket.dump(routing.dumpRules6)).map(routing.decodeRule));
}

/** Pauses between looks, in milliseconds. */
const LOOK_AGAIN_MS = [1, 4, 20, 100, 400];

/**
 * When a link or an address comes up the kernel makes them on a work queue (addrconf_dad_work), a moment after the
 * call has returned: they are lost only when they do not come.
 */
async function lostRoutes6(
  socket: Pick<RtNetlink, "dump">,
  link: number,
  address: InterfaceAddress,
): Promise<Route[]> {
  const look = async (): Promise<Route[]> =>
    missingRoutes((await socket.dump(routing.dumpRoutes6)).map(routing.decodeRoute), link, address);
  let lost = await look();
  for (const pause of LOOK_AGAIN_MS) {
    if (lost.length === 0) break;
    await delay(pause);
    lost = await look();
  }
  return lost;
}

/** What `mendInet` would mend, in words. */
export async function inetFaultsOf(
  socket: RtNetlink,
  link: number,
  address: InterfaceAddress | undefined,
): Promise<string[]> {
  return inetFaults(await difference(socket, link, address));
}

async function difference(
  socket: RtNetlink,
  link: number,
  address: InterfaceAddress | undefined,
): Promise<
  InetDifference<
    InterfaceAddress,
    ReturnType<typeof routing.decodeRoute>,
    ReturnType<typeof routing.decodeRule>
  >
> {
  const addresses = (await addressesOf(socket))(link).filter(({ ip }) => familyOf(ip) === 4);
  const routes = (await socket.dump(routing.dumpRoutes)).map(routing.decodeRoute);
  const rules = (await socket.dump(routing.dumpRules)).map(routing.decodeRule);
  return inetDifference({ addresses, routes, rules }, desiredInet(link, address));
}
