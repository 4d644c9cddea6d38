import { familyOf, type Ip } from "../../shared/ip.ts";
import { assert } from "../../shared/errors.ts";
import { ruleMac } from "../../shared/mac.ts";
import type { InterfaceAddress, Transit } from "../core/data-plane/kernel-state.ts";
import { endAddress, isTransitLink } from "../core/data-plane/transit.ts";
import { missing } from "./errno.ts";
import type { HostNamespace } from "./host-namespace.ts";
import * as route from "./netlink/route.ts";
import { withNetnsDescriptor } from "./netns.ts";
import type { NetworkNamespace } from "./network-namespace.ts";

/** The end in a network's namespace. */
const INSIDE = "tr0";

/** A network's way out, a veth to the host's namespace. Rules and routes are not made here. */
export class TransitLink {
  readonly #namespace: NetworkNamespace;
  readonly #host: HostNamespace;

  constructor(namespace: NetworkNamespace, host: HostNamespace) {
    this.#namespace = namespace;
    this.#host = host;
  }

  /** As both ends are; undefined: one is missing, down, or was not finished. */
  async read(
    links: readonly route.Link[],
    addressesAt: (link: number) => readonly InterfaceAddress[],
  ): Promise<Transit | undefined> {
    const inside = this.inside(links);
    // Its alias is written last, and names the other end.
    if (inside?.up !== true || !isTransitLink(inside.alias)) return undefined;
    const outside = await this.#host.transitEnd(inside.alias);
    if (outside === undefined) return undefined;
    const held = addressesAt(inside.index);
    return {
      link: inside.alias,
      ends: outside.addresses.flatMap(({ ip }) => {
        const other = held.find((address) => familyOf(address.ip) === familyOf(ip));
        return other === undefined ? [] : [{ outside: ip, inside: other.ip }];
      }),
    };
  }

  inside(links: readonly route.Link[]): route.Link | undefined {
    return links.find(({ name }) => name === INSIDE);
  }

  /** Mended in place: what goes through it goes on. @returns the index of the end inside */
  async put({ link, ends }: Transit, mtuBytes: number): Promise<number> {
    const [first] = ends;
    assert(first !== undefined, "a transit has addresses");
    const held = this.inside(await this.#namespace.links());
    const isWhole = held?.alias === link && (await this.#host.transitEnd(link)) !== undefined;
    if (!isWhole) await this.#make(link, first.outside, mtuBytes, held);
    await this.#host.putTransitEnd(
      link,
      ends.map(({ outside }) => endAddress(outside)),
      mtuBytes,
    );
    const inside = this.inside(await this.#namespace.links());
    if (inside === undefined) throw missing(INSIDE);
    await this.#namespace.socket.batch([
      route.setUp(inside.index, mtuBytes),
      route.setAlias(inside.index, link),
    ]);
    return inside.index;
  }

  /** Not there is success. */
  async remove(): Promise<void> {
    const held = this.inside(await this.#namespace.links());
    if (held !== undefined) await this.#delete(held);
  }

  async #make(
    link: string,
    outside: Ip,
    mtuBytes: number,
    held: route.Link | undefined,
  ): Promise<void> {
    if (held !== undefined) await this.#delete(held);
    // Of a network that a crash left.
    await this.#host.dropTransitEnd(link);
    await withNetnsDescriptor(this.#host.path, (fd) => {
      const peer = { name: link, mac: ruleMac(outside), netnsFd: fd };
      return this.#namespace.socket.request(route.addVeth(INSIDE, peer, mtuBytes));
    });
  }

  #delete({ index, name }: route.Link): Promise<void> {
    return this.#namespace.socket.request(route.deleteLink(index, name));
  }
}
