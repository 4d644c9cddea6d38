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

export async function linkNamed(socket: RtNetlink, name: string): Promise<route.Link | undefined> {
  return (await linksOf(socket)).find((link) => link.name === name);
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
  const all = (await socket.dump(inNamespace(route.dumpAddresses, netnsId))).flatMap(
    (message) => route.decodeAddress(message) ?? [],
  );
  return (link) =>
    all
      .filter(({ index, ip }) => index === link && !ip.startsWith("fe80:"))
      .map(({ ip, prefixLength }) => ({ ip, prefixLength }));
}
