import type { Ip } from "../../../shared/ip.ts";
import * as neighbour from "./neighbour.ts";
import * as route from "./route.ts";
import type { RtNetlink } from "./socket.ts";

/** What a namespace holds, asked of a socket in it. */

export async function linksOf(socket: RtNetlink): Promise<route.Link[]> {
  return (await socket.dump(route.dumpLinks)).map(route.decodeLink);
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
): Promise<(link: number) => { ip: Ip; prefixLength: number }[]> {
  const all = (await socket.dump(route.dumpAddresses)).flatMap(
    (message) => route.decodeAddress(message) ?? [],
  );
  return (link) =>
    all
      .filter(({ index, ip }) => index === link && !ip.startsWith("fe80:"))
      .map(({ ip, prefixLength }) => ({ ip, prefixLength }));
}
