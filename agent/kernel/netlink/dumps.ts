import { OverlayError } from "../../../shared/errors.ts";
import type { Ip } from "../../../shared/ip.ts";
import * as neighbour from "./neighbour.ts";
import * as route from "./route.ts";
import type { Request, RtNetlink } from "./socket.ts";

/** Dumps of a namespace's links, addresses and neighbours through a socket in it. */

/** `netnsId`: of another namespace, by the number that the socket's own has for it. */
export async function linksOf(socket: RtNetlink, netnsId?: number): Promise<route.Link[]> {
  return (await socket.dump(inNamespace(route.dumpLinks, netnsId))).map(route.decodeLink);
}

function inNamespace(request: Request, netnsId: number | undefined): Request {
  return netnsId === undefined ? request : route.inNamespace(request, netnsId);
}

/** Undefined: it is not there. Whatever else there is costs nothing. */
export async function linkNamed(socket: RtNetlink, name: string): Promise<route.Link | undefined> {
  try {
    const [answer] = await socket.get(route.getLink(name));
    return answer && route.decodeLink(answer);
  } catch (error) {
    if (error instanceof OverlayError && error.errno === "ENODEV") return undefined;
    throw error;
  }
}

export async function neighboursOf(
  socket: RtNetlink,
  what: "bridge" | 4 | 6,
): Promise<neighbour.Neighbour[]> {
  return (await socket.dump(neighbour.dumpNeighbours(what))).map(neighbour.decodeNeighbour);
}

/** Of each link by its index, without the link-local ones that it gives itself. */
export async function addressesOf(
  socket: RtNetlink,
  netnsId?: number,
): Promise<(link: number) => { ip: Ip; prefixLength: number }[]> {
  const all = await addressesBy(socket, inNamespace(route.dumpAddresses, netnsId));
  return (link) =>
    all.filter(({ index }) => index === link).map(({ ip, prefixLength }) => ({ ip, prefixLength }));
}

/** The same, of one link. */
export async function addressesOn(
  socket: RtNetlink,
  link: number,
): Promise<{ ip: Ip; prefixLength: number }[]> {
  const all = await addressesBy(socket, route.dumpAddressesOf(link));
  return all.map(({ ip, prefixLength }) => ({ ip, prefixLength }));
}

async function addressesBy(socket: RtNetlink, dump: Request): Promise<route.Address[]> {
  return (await socket.dump(dump))
    .flatMap((message) => route.decodeAddress(message) ?? [])
    .filter(({ ip }) => !ip.startsWith("fe80:"));
}
