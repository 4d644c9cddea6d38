import type { RawNetlinkSocket } from "netlink";
import { type BoundPort, boundPorts, WAY_OUT } from "../core/data-plane/way-out.ts";
import { decodeFrames } from "./netlink/codec.ts";
import { addressesOf, linksOf } from "./netlink/dumps.ts";
import {
  listenTo,
  NETLINK,
  NFNLGRP_NFTABLES,
  openNetlinkSocket,
  openRouteSocket,
} from "./netlink/raw-socket.ts";
import * as route from "./netlink/route.ts";
import { RtNetlink } from "./netlink/socket.ts";
import type { WayOut } from "./port.ts";
import { type Element, elementOf } from "./nft/port-rules.ts";
import { WayOutFilter } from "./nft/way-out-filter.ts";

/** linux/netfilter.h */
const NFPROTO_BRIDGE = 7;

/**
 * docker_gwbridge's ports, which Docker makes and takes away: each isolated, and bound to the MAC and addresses that
 * its container's end has when it comes up.
 */
export class WayOutPorts implements WayOut {
  readonly #socket: RtNetlink;
  readonly #news: RawNetlinkSocket[];
  readonly #filter: WayOutFilter;
  #listener: () => void = () => {};
  /** What the last pass left; undefined: not read yet. */
  #bound: BoundPort<Element>[] | undefined;
  /** The bridge's index at the last look; 0: it is not there. */
  #bridge = 0;

  constructor({ hostNetns }: { hostNetns?: string }) {
    this.#socket = new RtNetlink(hostNetns);
    this.#filter = new WayOutFilter(hostNetns);
    const links = openRouteSocket(hostNetns, [route.RTNLGRP.link]);
    const tables = openNetlinkSocket(hostNetns, NETLINK.netfilter, [NFNLGRP_NFTABLES]);
    this.#news = [links, tables];
    listenTo(links, (datagram) => this.#linksChanged(datagram));
    listenTo(tables, (datagram) => this.#tablesChanged(datagram));
  }

  onChange(listener: () => void): void {
    this.#listener = listener;
  }

  recheck(): void {
    this.#filter.doubt();
  }

  /** One port that fails keeps no other from being isolated and bound. */
  async set(): Promise<void> {
    const ports = await this.#ports();
    const failed = await this.#each(
      ports.filter(({ isolated }) => !isolated),
      (port) => this.#socket.request(route.isolatePort(port)),
    );
    this.#bound ??= await this.#filter.read();
    const known = new Set(this.#bound.map(({ port }) => port));
    const found: BoundPort<Element>[] = [];
    const unread = await this.#each(
      ports.filter(({ name }) => !known.has(name)),
      async (port) => {
        const speakers = await this.#speakers(port);
        if (speakers.length > 0) found.push({ port: port.name, speakers });
      },
    );
    this.#bound = boundPorts(this.#bound, found, new Set(ports.map(({ name }) => name)));
    if (this.#bridge !== 0 || known.size > 0) await this.#filter.put(this.#bound);
    await this.#throwOf(new Map([...unread, ...failed]));
  }

  async faults(): Promise<string[]> {
    const ports = await this.#ports();
    const bound = new Map(this.#bound?.map(({ port, speakers }) => [port, speakers]));
    const texts = ports.flatMap(({ name, isolated }) => [
      ...(isolated ? [] : [`port ${name} of ${WAY_OUT} is not isolated`]),
      ...(bound.has(name) ? [] : [`port ${name} of ${WAY_OUT} is not bound to an address`]),
      ...(bound.get(name)?.length === 0
        ? [`port ${name} of ${WAY_OUT} has another's address and is cut off: restart its container`]
        : []),
    ]);
    const intact = await this.#filter.intact();
    return intact ? texts : [...texts, `the filter of ${WAY_OUT} is not what was written`];
  }

  async remove(): Promise<void> {
    await this.#filter.remove();
  }

  close(): void {
    for (const socket of this.#news) socket.close();
    this.#socket.close();
  }

  async #ports(): Promise<route.Link[]> {
    const links = await linksOf(this.#socket);
    const bridge = links.find(({ name, kind }) => name === WAY_OUT && kind === "bridge");
    this.#bridge = bridge?.index ?? 0;
    return bridge === undefined ? [] : links.filter(({ master }) => master === bridge.index);
  }

  /** None before Docker is done: it sets a container's end up last. */
  async #speakers({ name, peer }: route.Link): Promise<Element[]> {
    if (peer === undefined) return [];
    const { netnsId, index } = peer;
    const end = (await linksOf(this.#socket, netnsId)).find((link) => link.index === index);
    if (end?.mac === undefined || !end.up) return [];
    const { mac } = end;
    const addresses = (await addressesOf(this.#socket, netnsId))(index);
    return addresses.map(({ ip }) => elementOf(name, mac, ip));
  }

  /** Why it failed, by the index of the port. */
  async #each(
    ports: readonly route.Link[],
    work: (port: route.Link) => Promise<void>,
  ): Promise<Map<number, unknown>> {
    const failed = new Map<number, unknown>();
    for (const port of ports)
      await work(port).catch((error: unknown) => failed.set(port.index, error));
    return failed;
  }

  /** One that is gone meanwhile, or its container, has nothing left to be done. */
  async #throwOf(failed: ReadonlyMap<number, unknown>): Promise<void> {
    if (failed.size === 0) return;
    for (const { index } of await this.#ports()) if (failed.has(index)) throw failed.get(index);
  }

  #linksChanged(datagram: Buffer): void {
    const changed = decodeFrames(datagram).flatMap((message) => route.changedLink(message) ?? []);
    const isOurs = ({ name, master }: route.Link): boolean =>
      name === WAY_OUT || (master !== 0 && master === this.#bridge);
    if (changed.some(isOurs)) this.#listener();
  }

  #tablesChanged(datagram: Buffer): void {
    if (!decodeFrames(datagram).some(({ payload }) => payload[0] === NFPROTO_BRIDGE)) return;
    this.#filter.doubt();
    this.#listener();
  }
}
