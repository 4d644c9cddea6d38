import { PROOF_VNI_PLAIN } from "../../shared/ids.ts";
import { familyOf, ipToBytes } from "../../shared/ip.ts";
import { hex } from "../../shared/codec.ts";
import type { DesiredGuards } from "../core/data-plane.ts";
import { Nft } from "./nft.ts";
import type { Guards } from "./port.ts";

const TABLE = "overlay_ts";
const REASONS = [
  "forwarded",
  "stranger",
  "notHosting",
  "notSpeaker",
  "unusedClass",
  "unencrypted",
  "throughHost",
] as const;
/** What is still told of our own writes after they were made. */
const ECHO_MS = 100;

/** VXLAN behind the UDP header (RFC 7348): offsets in bits from the transport header. */
const VNI = "@th,96,24";
const ETHER_TYPE = "@th,224,16";
const ETHER_SOURCE = "@th,176,48";
const IP_SOURCE = "@th,336,32";
const ARP_MAC = "@th,304,48";
const ARP_IP = "@th,352,32";
const IP6_SOURCE = "@th,304,128";
const IP6_NEXT_HEADER = "@th,288,8";
/** Behind an IPv6 header without extensions. */
const ICMP6_TYPE = "@th,560,8";
const ND_TARGET = "@th,624,128";

const SETS = ["vteps", "hosting", "speakers", "speakers6"] as const;
type Sets = Readonly<Record<(typeof SETS)[number], readonly string[]>>;

/**
 * What may enter the VXLAN sockets, as one table of the host's namespace. First written whole;
 * then by difference, each in one transaction, so that there is no moment without guards.
 */
export class NftGuards implements Guards {
  readonly #nft: Nft;
  readonly #closing = new AbortController();
  #last: Promise<unknown> = Promise.resolve();
  #writing = 0;
  #quietUntilMs = 0;
  #written: { shape: string; sets: Sets } | undefined;
  /** The rules as the kernel gave them back right after they were written. */
  #rules: string | undefined;

  constructor({ hostNetns }: { hostNetns?: string }) {
    this.#nft = new Nft(hostNetns);
  }

  set(desired: DesiredGuards): Promise<void> {
    return this.#inTurn(() => this.#set(desired));
  }

  verify(): Promise<boolean> {
    return this.#inTurn(async () => {
      const holds = await this.#holds();
      // The next `set` then writes all of it.
      if (!holds) this.#written = undefined;
      return holds;
    });
  }

  /** A listing taken while a difference is written is of neither. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work, work);
    this.#last = done;
    return done;
  }

  async #set(desired: DesiredGuards): Promise<void> {
    const sets = setsOf(desired);
    const shape = JSON.stringify([desired.underlayFamily, desired.classPorts, desired.ipsec]);
    const held = this.#written;
    if (held?.shape !== shape) return this.#writeWhole(desired, shape, sets);
    const script = difference(held.sets, sets);
    if (script === "") return;
    try {
      await this.#apply(script, "guards");
      this.#written = { shape, sets };
    } catch {
      // Somebody changed the sets: what is there is no longer what the difference starts from.
      await this.#writeWhole(desired, shape, sets);
    }
  }

  async #holds(): Promise<boolean> {
    const table = await this.#nft.table("inet", TABLE);
    if (table === undefined || this.#written === undefined) return false;
    if (rulesOf(table) !== this.#rules) return false;
    const { sets } = this.#written;
    return Object.entries(elementsOf(table)).every(([name, elements]) => {
      const wanted = sets[name as keyof Sets].map(normalElement).toSorted();
      return JSON.stringify(elements.toSorted()) === JSON.stringify(wanted);
    });
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    const table = (await this.#nft.table("inet", TABLE)) ?? [];
    const counters = table.flatMap((entry) => (entry as { counter?: Counter }).counter ?? []);
    return Object.fromEntries(counters.map(({ name, packets }) => [name, packets]));
  }

  /**
   * Told when the table is another than what was written, and that is no longer believed. What we write
   * ourselves is told by the kernel too, on a busy host late: so news are only a reason to compare.
   */
  onTamper(listener: () => void): void {
    let news = false;
    let comparing = false;
    const compare = async (): Promise<void> => {
      if (comparing) return;
      comparing = true;
      while (news && !this.#closing.signal.aborted) {
        news = false;
        if (!(await this.verify().catch(() => false)) && !this.#closing.signal.aborted) listener();
      }
      comparing = false;
    };
    const onLine = (line: string): void => {
      const quiet = this.#writing > 0 || performance.now() < this.#quietUntilMs;
      if (quiet || !line.includes(` inet ${TABLE}`)) return;
      news = true;
      void compare();
    };
    const again = (): void => {
      if (!this.#closing.signal.aborted)
        setTimeout(() => this.#nft.monitor(onLine, again, this.#closing.signal), 1000).unref();
    };
    this.#nft.monitor(onLine, again, this.#closing.signal);
  }

  /** The table stays: the data plane goes on, and so must its guards. */
  close(): Promise<void> {
    this.#closing.abort();
    return Promise.resolve();
  }

  /** For `leave` and tests: nothing of ours stays. */
  async remove(): Promise<void> {
    await this.#apply(`table inet ${TABLE} {}\ndelete table inet ${TABLE}\n`, "removal");
    this.#written = undefined;
  }

  async #writeWhole(desired: DesiredGuards, shape: string, sets: Sets): Promise<void> {
    this.#written = undefined;
    await this.#apply(whole(desired, sets), "guards");
    this.#written = { shape, sets };
    const table = await this.#nft.table("inet", TABLE);
    this.#rules = table === undefined ? undefined : rulesOf(table);
  }

  async #apply(script: string, op: string): Promise<void> {
    this.#writing++;
    try {
      await this.#nft.apply(script, op);
    } finally {
      this.#writing--;
      this.#quietUntilMs = performance.now() + ECHO_MS;
    }
  }
}

type Counter = { name: string; packets: number };

function setsOf({ vteps, hosting, speakers }: DesiredGuards): Sets {
  const unique = (elements: string[]): string[] => [...new Set(elements)].toSorted();
  const speakersOf = (family: 4 | 6): string[] =>
    speakers
      .filter(({ ip }) => familyOf(ip) === family)
      .map(
        ({ vtep, vni, mac, ip }) =>
          `${vtep} . ${vni} . 0x${mac.replaceAll(":", "")} . 0x${hex(ipToBytes(ip))}`,
      );
  return {
    vteps: unique(vteps.map(String)),
    hosting: unique(hosting.map(({ vtep, vni }) => `${vtep} . ${vni}`)),
    speakers: unique(speakersOf(4)),
    speakers6: unique(speakersOf(6)),
  };
}

/**
 * Of IPv6 inside, extension headers before ICMPv6 are dropped: behind them an advertisement would not
 * be looked at, and the receiver would take it. Routers and redirects (134, 137) are no host's to be.
 */
function whole({ classPorts, underlayFamily, ipsec: open }: DesiredGuards, sets: Sets): string {
  const [ip, other] = underlayFamily === 4 ? ["ip", "ipv6"] : ["ip6", "ipv4"];
  const { plain, wireguard, ipsec } = classPorts;
  const all = `udp dport { ${plain}, ${wireguard}, ${ipsec} }`;
  const set = (name: keyof Sets, type: string): string => {
    const elements = sets[name].length === 0 ? "" : `elements = { ${sets[name].join(", ")} }`;
    return `  set ${name} { ${type}; ${elements} }`;
  };
  const drop = (why: (typeof REASONS)[number]): string => `counter name ${why} drop`;
  const unused = `udp dport { ${open ? wireguard : `${wireguard}, ${ipsec}`} } ${drop("unusedClass")}`;
  // The second lock: the first are policies of the kernel's IPsec, see agent/encryption.
  const underEsp = (without: string): string =>
    open ? `udp dport ${ipsec} ${without} missing ${drop("unencrypted")}` : "";
  return `table inet ${TABLE} {}
delete table inet ${TABLE}
table inet ${TABLE} {
${REASONS.map((reason) => `  counter ${reason} {}`).join("\n")}
${set("vteps", `type ipv${underlayFamily}_addr`)}
${set("hosting", `typeof ${ip} saddr . ${VNI}`)}
${set("speakers", `typeof ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${IP_SOURCE}`)}
${set("speakers6", `typeof ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${IP6_SOURCE}`)}
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    ${all} fib daddr type != local ${drop("forwarded")}
    ${all} fib saddr . iif oif missing ${drop("forwarded")}
    ${all} notrack
  }
  chain forward {
    type filter hook forward priority raw; policy accept;
    ${all} ${drop("forwarded")}
    iifname "ovc*" ${drop("throughHost")}
    oifname "ovc*" ${drop("throughHost")}
  }
  chain output {
    type filter hook output priority raw; policy accept;
    ${unused}
    ${underEsp("rt ipsec")}
    ${all} notrack
  }
  chain input {
    type filter hook input priority raw; policy accept;
    ${unused}
    ${underEsp("meta secpath")}
    udp dport { ${open ? `${plain}, ${ipsec}` : plain} } jump plain
  }
  chain plain {
    meta nfproto ${other} ${drop("stranger")}
    ${ip} saddr != @vteps ${drop("stranger")}
    ${VNI} ${PROOF_VNI_PLAIN} accept
    ${ip} saddr . ${VNI} != @hosting ${drop("notHosting")}
    ${ETHER_TYPE} 0x0800 ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${IP_SOURCE} @speakers accept
    ${ETHER_TYPE} 0x0806 ${ip} saddr . ${VNI} . ${ARP_MAC} . ${ARP_IP} @speakers accept
    ${ETHER_TYPE} 0x86dd jump inner6
    ${drop("notSpeaker")}
  }
  chain inner6 {
    ${IP6_NEXT_HEADER} { 0, 43, 60 } ${drop("notSpeaker")}
    ${IP6_NEXT_HEADER} 58 ${ICMP6_TYPE} { 134, 137 } ${drop("notSpeaker")}
    ${IP6_NEXT_HEADER} 58 ${ICMP6_TYPE} 136 ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${ND_TARGET} != @speakers6 ${drop("notSpeaker")}
    ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${IP6_SOURCE} @speakers6 accept
    ${drop("notSpeaker")}
  }
}
`;
}

function difference(held: Sets, wanted: Sets): string {
  const lines: string[] = [];
  for (const name of SETS) {
    const before = new Set(held[name]);
    const after = new Set(wanted[name]);
    const added = wanted[name].filter((element) => !before.has(element));
    const removed = held[name].filter((element) => !after.has(element));
    if (added.length > 0) lines.push(`add element inet ${TABLE} ${name} { ${added.join(", ")} }`);
    if (removed.length > 0)
      lines.push(`delete element inet ${TABLE} ${name} { ${removed.join(", ")} }`);
  }
  return lines.join("\n");
}

/** Chains and rules without what changes by itself: handles. */
function rulesOf(table: readonly unknown[]): string {
  const kept = table.flatMap((entry) => {
    const { chain, rule } = entry as Record<string, Record<string, unknown> | undefined>;
    return chain ?? rule ?? [];
  });
  return JSON.stringify(kept, (name, value: unknown) => (name === "handle" ? undefined : value));
}

function elementsOf(table: readonly unknown[]): Record<keyof Sets, string[]> {
  const found: Record<keyof Sets, string[]> = {
    vteps: [],
    hosting: [],
    speakers: [],
    speakers6: [],
  };
  for (const entry of table) {
    const { set } = entry as { set?: { name: string; elem?: unknown[] } };
    if (set !== undefined && set.name in found)
      found[set.name as keyof Sets] = (set.elem ?? []).map((element) =>
        typeof element === "string"
          ? element
          : normalElement((element as { concat: unknown[] }).concat.map(String).join(" . ")),
      );
  }
  return found;
}

/** As nft's JSON has it: numbers decimal. */
function normalElement(element: string): string {
  return element
    .split(" . ")
    .map((part) => (part.startsWith("0x") ? BigInt(part).toString() : part))
    .join(" . ");
}
