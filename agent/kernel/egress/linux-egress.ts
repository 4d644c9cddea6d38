import type { RawNetlinkSocket } from "netlink";
import { asFailure, type Failure } from "../../../shared/errors.ts";
import type { Family } from "../../../shared/ip.ts";
import { runProgram } from "../../../shared/node/run-program.ts";
import { TRANSIT_LINKS } from "../../core/data-plane/transit.ts";
import { decodeFrames, type NetlinkMessage } from "../netlink/codec.ts";
import { linksOf } from "../netlink/dumps.ts";
import {
  listenTo,
  NETLINK,
  NFNLGRP_NFTABLES,
  openNetlinkSocket,
  openRouteSocket,
} from "../netlink/raw-socket.ts";
import { changedLink, type Link, RTNLGRP } from "../netlink/route.ts";
import { RtNetlink } from "../netlink/socket.ts";
import { netSettingFaults } from "../netns.ts";
import { countersOf, Nft, rulesOf } from "../nft/nft.ts";
import type { Egress } from "../port.ts";
import { egressRules, NO_EGRESS_RULES, TABLE } from "./egress-rules.ts";
import { ForwardChain } from "./forward-chain.ts";

const FIREWALLD = "firewalld";

/** The host's part of networks' transits, see README.md in the folder above. */
export class LinuxEgress implements Egress {
  readonly #netns: string | undefined;
  readonly #nft: Nft;
  readonly #socket: RtNetlink;
  readonly #news: RawNetlinkSocket[];
  readonly #forward: Readonly<Record<Family, ForwardChain>>;
  #blocked: Readonly<Record<Family, Failure | undefined>> = { 4: NOT_LOOKED, 6: NOT_LOOKED };
  #listener: () => void = () => {};
  #written: string | undefined;
  #doubted = false;

  constructor({ hostNetns }: { hostNetns?: string }) {
    this.#netns = hostNetns;
    this.#nft = new Nft(hostNetns);
    this.#socket = new RtNetlink(hostNetns);
    this.#forward = { 4: new ForwardChain(hostNetns, 4), 6: new ForwardChain(hostNetns, 6) };
    const links = openRouteSocket(hostNetns, [RTNLGRP.link]);
    const tables = openNetlinkSocket(hostNetns, NETLINK.netfilter, [NFNLGRP_NFTABLES]);
    this.#news = [links, tables];
    listenTo(links, (datagram) => this.#linksChanged(datagram));
    listenTo(tables, (datagram) => this.#tablesChanged(datagram));
  }

  async set(): Promise<void> {
    const doubted = this.#doubted;
    // Before the look: what is told meanwhile is of after it.
    this.#doubted = false;
    const script = egressRules(await this.#uplinks());
    if (this.#written !== script || (doubted && !(await this.#holds(script)))) {
      this.#written = undefined;
      await this.#nft.change(script, "the ways out");
      this.#written = script;
    }
    this.#blocked = { 4: await this.#look(4), 6: await this.#look(6) };
  }

  blocked(family: Family): Failure | undefined {
    return this.#blocked[family];
  }

  async faults(): Promise<string[]> {
    const holds = await this.#holds(egressRules(await this.#uplinks()));
    return [
      ...(holds ? [] : ["the rules of the ways out are not those that were written"]),
      ...(await this.#forward[4].missing()),
      ...(this.#forwards(6) ? await this.#forward[6].missing() : []),
    ];
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    return countersOf((await this.#nft.smallTable("inet", TABLE)) ?? []);
  }

  onChange(listener: () => void): void {
    this.#listener = listener;
  }

  recheck(): void {
    this.#doubted = true;
  }

  async remove(): Promise<void> {
    await this.#nft.change(NO_EGRESS_RULES, "the ways out");
    for (const chain of Object.values(this.#forward)) await chain.remove();
  }

  close(): void {
    for (const socket of this.#news) socket.close();
    this.#socket.close();
  }

  /** Rules by what they should be, never by what was found after writing: somebody may have been faster. */
  async #holds(script: string): Promise<boolean> {
    const table = await this.#nft.smallTable("inet", TABLE);
    if (table === undefined) return false;
    const form = await this.#nft.smallForm(script, "inet", TABLE);
    return contentOf(table) === contentOf(form);
  }

  /** Bridges with a port that is no container's: a machine's own, or one of virtual machines. */
  async #uplinks(): Promise<string[]> {
    const links = await linksOf(this.#socket);
    const out = new Set(links.filter(({ kind }) => kind !== "veth").map(({ master }) => master));
    const isUplink = ({ kind, index }: Link): boolean => kind === "bridge" && out.has(index);
    return links
      .filter(isUplink)
      .map(({ name }) => name)
      .toSorted();
  }

  async #look(family: Family): Promise<Failure | undefined> {
    try {
      if (!this.#forwards(family)) return notForwarding(family);
      return (await this.#forward[family].letThrough()) ?? (await this.#stopped(family));
    } catch (error) {
      return asFailure(error);
    }
  }

  #forwards(family: Family): boolean {
    const setting = family === 4 ? "ipv4/ip_forward" : "ipv6/conf/all/forwarding";
    return netSettingFaults(this.#netns, [[setting, "1"]]).length === 0;
  }

  /** By chains that iptables does not show. */
  async #stopped(family: Family): Promise<Failure | undefined> {
    const chains = (await this.#nft.baseChains()).filter(({ hook }) => hook === "forward");
    if (chains.some(({ table }) => table === FIREWALLD)) {
      const inZone = ["--get-zone-of-interface", `${TRANSIT_LINKS}+`];
      const asked = runProgram("firewall-cmd", inZone, { timeoutMs: 10_000 });
      if ((await asked.catch(() => undefined))?.status !== 0) return FIREWALLD_STOPS;
    }
    const of = family === 4 ? "ip" : "ip6";
    const dropping = chains.find(
      (chain) =>
        chain.policy === "drop" &&
        ["inet", of].includes(chain.family) &&
        !(chain.family === of && chain.table === "filter" && chain.name === "FORWARD"),
    );
    return dropping && stopping(dropping.family, dropping.table, dropping.name);
  }

  #linksChanged(datagram: Buffer): void {
    const changed = decodeFrames(datagram).flatMap((message) => changedLink(message) ?? []);
    // A bridge, or a port of one that is no container's: what leads out may be another.
    if (changed.some(({ kind, master }) => kind === "bridge" || (master !== 0 && kind !== "veth")))
      this.#listener();
  }

  #tablesChanged(datagram: Buffer): void {
    if (!decodeFrames(datagram).some(concernsForwarding)) return;
    this.#doubted = true;
    this.#listener();
  }
}

/** In messages of nf_tables names stand as text (linux/netfilter/nf_tables.h). */
const NAMES = [TABLE, "FORWARD", "DOCKER-USER", FIREWALLD].map((name) => Buffer.from(`${name}\0`));
/** NFT_MSG_DELTABLE, in the low byte of the type. */
const DELETED_TABLE = 2;

function concernsForwarding({ type, payload }: NetlinkMessage): boolean {
  return (type & 0xff) === DELETED_TABLE || NAMES.some((name) => payload.includes(name));
}

/** Rules, and the elements of sets in any order; not counters. */
function contentOf(table: readonly unknown[]): string {
  const sets = table.flatMap((entry) => {
    const { set } = entry as { set?: { name: string; elem?: string[] } };
    return set === undefined ? [] : [[set.name, (set.elem ?? []).toSorted()]];
  });
  return rulesOf(table) + JSON.stringify(sets);
}

const NOT_LOOKED: Failure = {
  code: "INTERNAL",
  message: "the host's forwarding was not looked at",
};

function notForwarding(family: Family): Failure {
  const setting = family === 4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding";
  return {
    code: "UNSUPPORTED",
    message: `this host does not forward IPv${family}`,
    next: `\`sysctl -w ${setting}=1\`, as dockerd does for IPv4 unless it is told not to`,
  };
}

const FIREWALLD_STOPS: Failure = {
  code: "UNSUPPORTED",
  message: "firewalld stops what is forwarded from interfaces of no zone",
  next: "`firewall-cmd --permanent --zone=docker --add-interface=ovt+`, then `firewall-cmd --reload`",
};

function stopping(family: string, table: string, chain: string): Failure {
  return {
    code: "UNSUPPORTED",
    message: `the chain ${chain} of nftables' table ${family} ${table} drops what is forwarded`,
    next: 'let through there what comes from and goes to interfaces "ovt*"',
  };
}
