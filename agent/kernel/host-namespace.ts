import { type Family, familyOf, Ip } from "../../shared/ip.ts";
import type { SecurityClass } from "../../shared/cluster-state.ts";
import type { EndpointId } from "../../shared/ids.ts";
import { defaultRoute } from "../core/data-plane/inet.ts";
import type { InterfaceAddress } from "../core/data-plane/kernel-state.ts";
import { containerLink, isContainerLink } from "./container-link.ts";
import { missing } from "./errno.ts";
import { addressesOf, addressesOn, linkNamed, linksOf } from "./netlink/dumps.ts";
import * as route from "./netlink/route.ts";
import * as routing from "./netlink/routing.ts";
import { RtNetlink } from "./netlink/socket.ts";
import { isPinnedNetns, netSettingFaults, setNetSettings, withNetnsDescriptor } from "./netns.ts";

/** Of `lo`, in every namespace (include/net/flow.h). */
const LOOPBACK_INDEX = 1;
/** Addresses that no packet has: the dummy of RFC 7600, and one of RFC 6666's prefix to discard. */
const NOBODYS: Readonly<Record<Family, InterfaceAddress>> = {
  4: { ip: Ip.parse("192.0.0.8"), prefixLength: 32 },
  6: { ip: Ip.parse("100::1"), prefixLength: 128 },
};

/** Nobody announces routes there, and the host has no reason to send redirects. */
function transitSettings(name: string): [string, string][] {
  return [
    [`ipv4/conf/${name}/send_redirects`, "0"],
    [`ipv6/conf/${name}/accept_ra`, "0"],
  ];
}

export interface HostNamespaceOptions {
  /** Undefined: our own. */
  readonly path: string | undefined;
  /** Of WireGuard's device, which is there when its class is in use. */
  readonly transportPath: string;
}

/** What networks have outside of their namespaces: VXLAN's sockets, and the other ends of ports. */
export class HostNamespace {
  readonly path: string | undefined;
  readonly #transportPath: string;
  readonly #socket: RtNetlink;

  constructor({ path, transportPath }: HostNamespaceOptions) {
    this.path = path;
    this.#transportPath = transportPath;
    this.#socket = new RtNetlink(path);
  }

  /** A VXLAN socket stays where its device is made: of WireGuard's class there is nothing in clear. */
  async onUnderlay(
    encryption: SecurityClass,
    work: (socket: RtNetlink) => Promise<void>,
  ): Promise<void> {
    if (encryption !== "wireguard") return work(this.#socket);
    if (!isPinnedNetns(this.#transportPath)) throw missing("the namespace of WireGuard");
    // Opened each time: the namespace may be another one by now.
    const socket = new RtNetlink(this.#transportPath);
    try {
      await work(socket);
    } finally {
      socket.close();
    }
  }

  /**
   * A VXLAN device has another local address. With each of its entries the kernel keeps a route for each processor, the
   * source address in it, until addresses or routes of the socket's namespace change (dst_cache, net/core/dst_cache.c):
   * one that comes and goes makes it look again, with the next packet and without a lost one.
   */
  async forgetSources(encryption: SecurityClass, family: Family): Promise<void> {
    const { ip, prefixLength } = NOBODYS[family];
    await this.onUnderlay(encryption, (socket) =>
      socket.batch([
        route.addAddress(LOOPBACK_INDEX, ip, prefixLength),
        route.deleteAddress(LOOPBACK_INDEX, ip, prefixLength),
      ]),
    );
  }

  /** The host's end of a transit, by its name; undefined: not here, or down. */
  async transitEnd(
    name: string,
  ): Promise<{ index: number; addresses: InterfaceAddress[] } | undefined> {
    const link = await linkNamed(this.#socket, name);
    if (link?.up !== true) return undefined;
    return { index: link.index, addresses: await addressesOn(this.#socket, link.index) };
  }

  /** Up, with these addresses and no others. */
  async putTransitEnd(
    name: string,
    addresses: readonly InterfaceAddress[],
    mtuBytes: number,
  ): Promise<void> {
    const link = await linkNamed(this.#socket, name);
    if (link === undefined) throw missing(name);
    setNetSettings(this.path, transitSettings(name));
    const isWanted = ({ ip }: InterfaceAddress): boolean =>
      addresses.some((wanted) => wanted.ip === ip);
    const held = await addressesOn(this.#socket, link.index);
    await this.#socket.batch([
      ...held
        .filter((address) => !isWanted(address))
        .map(({ ip, prefixLength }) => route.deleteAddress(link.index, ip, prefixLength)),
      route.setUp(link.index, mtuBytes),
      ...addresses.map(({ ip, prefixLength }) => route.addAddress(link.index, ip, prefixLength)),
    ]);
  }

  transitFaults(name: string): string[] {
    return netSettingFaults(this.path, transitSettings(name));
  }

  async dropTransitEnd(name: string): Promise<void> {
    const link = await linkNamed(this.#socket, name);
    if (link !== undefined) await this.#socket.request(route.deleteLink(link.index, name));
  }

  /** The other end of an exposed network's port: up, with its addresses. */
  async putEnd(
    endpoint: EndpointId,
    addresses: readonly InterfaceAddress[],
    mtuBytes: number,
  ): Promise<void> {
    const name = containerLink(endpoint);
    const link = await linkNamed(this.#socket, name);
    if (link === undefined) throw missing(name);
    await this.#socket.batch([
      route.setUp(link.index, mtuBytes),
      ...addresses.map(({ ip, prefixLength }) => route.addAddress(link.index, ip, prefixLength)),
    ]);
  }

  /** The addresses of other ends that are here; undefined: not here, or down. */
  async ends(): Promise<(endpoint: EndpointId) => InterfaceAddress[] | undefined> {
    const links = await linksOf(this.#socket);
    const addresses = await addressesOf(this.#socket);
    return (endpoint) => {
      const name = containerLink(endpoint);
      const link = links.find((candidate) => candidate.name === name && candidate.up);
      return link === undefined ? undefined : addresses(link.index);
    };
  }

  async endNames(): Promise<ReadonlySet<string>> {
    const names = (await linksOf(this.#socket)).map(({ name }) => name);
    return new Set(names.filter(isContainerLink));
  }

  /** What Docker did with the end before it: moved, named, addressed, up; IPv6 only where it has an address. */
  async giveBackEnd(
    endpoint: EndpointId,
    sandbox: string,
    addresses: readonly InterfaceAddress[],
    gateways: readonly Ip[],
  ): Promise<void> {
    const name = containerLink(endpoint);
    const link = await linkNamed(this.#socket, name);
    if (link === undefined) throw missing(name);
    const inside = new RtNetlink(sandbox);
    try {
      const before = new Set((await linksOf(inside)).map(({ index }) => index));
      await withNetnsDescriptor(sandbox, (fd) =>
        this.#socket.request(route.moveLink(link.index, "eth%d", fd)),
      );
      const moved = (await linksOf(inside)).find(({ index }) => !before.has(index));
      if (moved === undefined) throw missing(`${name} in its container`);
      const hasIpv6 = addresses.some(({ ip }) => familyOf(ip) === 6);
      setNetSettings(sandbox, [[`ipv6/conf/${moved.name}/disable_ipv6`, hasIpv6 ? "0" : "1"]]);
      await inside.batch([
        route.setUp(moved.index, link.mtuBytes),
        ...addresses.map(({ ip, prefixLength }) => route.addAddress(moved.index, ip, prefixLength)),
      ]);
      const held = [
        ...(await inside.dump(routing.dumpRoutes)),
        ...(await inside.dump(routing.dumpRoutes6)),
      ].map(routing.decodeRoute);
      const lost = gateways
        .map((gateway) => ({ ...defaultRoute(gateway, moved.index), metric: 0 }))
        .filter(({ table, type, to }) =>
          held.every((one) => one.table !== table || one.type !== type || one.to !== to),
        );
      await inside.batch(lost.map(routing.putRoute));
    } finally {
      inside.close();
    }
  }

  close(): void {
    this.#socket.close();
  }
}
