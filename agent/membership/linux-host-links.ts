import type { RawNetlinkSocket } from "netlink";
import type { Family, Ip } from "../../shared/ip.ts";
import { timesTableWasFull } from "../../shared/node/neighbour-table.ts";
import type { UnderlayFacts } from "../../shared/underlay.ts";
import { openRouteSocket } from "../kernel/netlink/raw-socket.ts";
import { RTNLGRP } from "../kernel/netlink/route.ts";
import { underlayFacts } from "./host-facts.ts";
import type { HostLinks } from "./underlay.ts";

const { link, address, address6, route, route6 } = RTNLGRP;

/** This machine's, by rtnetlink. What an event says is not read: what it is about is looked at whole. */
export class LinuxHostLinks implements HostLinks {
  readonly #listeners: (() => void)[] = [];
  #news: RawNetlinkSocket | undefined;

  read(address: Ip): Promise<UnderlayFacts | undefined> {
    return underlayFacts(address);
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
    if (this.#news !== undefined) return;
    this.#news = openRouteSocket(undefined, [link, address, address6, route, route6]);
    const told = (): void => {
      for (const each of this.#listeners) each();
    };
    for (const event of ["message", "error"] as const) this.#news.on(event, told);
  }

  timesTableWasFull(family: Family): number | undefined {
    return timesTableWasFull(family);
  }

  close(): void {
    this.#news?.close();
    this.#news = undefined;
  }
}
