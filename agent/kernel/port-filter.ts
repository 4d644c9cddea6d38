import { hex } from "../../shared/codec.ts";
import { familyOf, ipToBytes } from "../../shared/ip.ts";
import { type LocalPort, PORT_LINKS, portLink } from "../core/data-plane.ts";
import { Nft } from "./nft.ts";

const TABLE = "overlay_ts";

/** What is in the table: a port with a MAC and an address it may speak from, as nft writes it. */
interface Element {
  readonly set: "ports" | "ports6";
  readonly port: string;
  readonly text: string;
}

/**
 * No container speaks for another: in its network's namespace a bridge table lets in from a
 * container's port only frames with its own MAC and IP, ARP of them, and neighbour advertisements
 * for them. Router advertisements, DHCP offers and every other ethertype go nowhere.
 */
export class PortFilter {
  readonly #nft: Nft;
  /** What the table holds, or is being read; undefined: not read yet. */
  #held: Promise<Map<string, Element>> | undefined;

  constructor(netns: string) {
    this.#nft = new Nft(netns);
  }

  /** With the network's devices: the table, with the elements it had. */
  async extend(): Promise<void> {
    await this.#write([...(await this.#elements()).values()]);
  }

  /**
   * Before the ports count as complete; what these, and ports that are no longer among `links`, had
   * before goes with it. One run of nft for all.
   */
  async put(ports: readonly LocalPort[], links: ReadonlySet<string>): Promise<void> {
    const held = await this.#elements();
    const own = byText(ports.flatMap((port) => this.#of(port)));
    const names = new Set(ports.map(({ endpoint }) => portLink(endpoint)));
    const wanted = [...own.values()].filter(({ text }) => !held.has(text));
    const stale = [...held.values()].filter(
      ({ port, text }) => !links.has(port) || (names.has(port) && !own.has(text)),
    );
    if (wanted.length === 0 && stale.length === 0) return;
    for (const element of wanted) held.set(element.text, element);
    for (const { text } of stale) held.delete(text);
    try {
      const script = statements("add", wanted) + statements("delete", stale);
      await this.#nft.apply(script, "bridge ports");
    } catch {
      // Somebody took the table away, or changed it: written whole.
      await this.#write([...held.values()]);
    }
  }

  async #write(elements: readonly Element[]): Promise<void> {
    try {
      await this.#nft.apply(RULES + statements("add", elements), "bridge rules");
      this.#held = Promise.resolve(byText(elements));
    } catch (error) {
      this.forget();
      throw error;
    }
  }

  /** Those of the ports whose frames are filtered. */
  async holding<P extends LocalPort>(ports: readonly P[]): Promise<P[]> {
    if (ports.length === 0) return [];
    const held = await this.#elements();
    return ports.filter((port) => this.#of(port).every(({ text }) => held.has(text)));
  }

  /** Links that the table names, whether they are there or not. */
  async ports(): Promise<Set<string>> {
    return new Set([...(await this.#elements()).values()].map(({ port }) => port));
  }

  /** What is believed of the table is no longer sure. */
  forget(): void {
    this.#held = undefined;
  }

  #of({ endpoint, mac, ips }: LocalPort): Element[] {
    const port = portLink(endpoint);
    return ips.map((ip) =>
      familyOf(ip) === 4
        ? { set: "ports", port, text: `"${port}" . ${mac} . ${ip}` }
        : { set: "ports6", port, text: `"${port}" . ${mac} . 0x${hex(ipToBytes(ip))}` },
    );
  }

  /** Asked for by all ports of a network at once it is read once. */
  #elements(): Promise<Map<string, Element>> {
    let held = this.#held;
    if (held === undefined) {
      const reading = this.#nft
        .table("bridge", TABLE)
        .then((table) => byText(elementsOf(table ?? [])));
      held = reading.catch((error: unknown) => {
        this.forget();
        throw error;
      });
      this.#held = held;
    }
    return held;
  }
}

/** Raw, as one type with the target of an advertisement (RFC 4861, 4.4): offset and length in bits. */
const IP6_SOURCE = "@nh,64,128";
const ND_TARGET = "@th,64,128";

/**
 * From `::` an interface asks whether its address is taken: nobody else can have it, silence is the
 * answer. What an interface of an IPv4 network says from its link-local address is no attempt to spoof.
 */
const RULES = `table bridge ${TABLE} {}
delete table bridge ${TABLE}
table bridge ${TABLE} {
  counter spoofed {}
  set ports { type ifname . ether_addr . ipv4_addr; }
  set ports6 { typeof iifname . ether saddr . ${IP6_SOURCE}; }
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    iifname "${PORT_LINKS}*" jump container
  }
  chain container {
    ether type ip udp sport 67 counter name spoofed drop
    ether type ip iifname . ether saddr . ip saddr @ports accept
    ether type arp iifname . arp saddr ether . arp saddr ip @ports accept
    ether type arp arp operation request arp saddr ip 0.0.0.0 accept
    ether type ip6 jump container6
    counter name spoofed drop
  }
  chain container6 {
    ip6 saddr :: drop
    icmpv6 type { nd-router-advert, nd-redirect } counter name spoofed drop
    udp sport 547 counter name spoofed drop
    icmpv6 type nd-neighbor-advert iifname . ether saddr . ${ND_TARGET} != @ports6 counter name spoofed drop
    iifname . ether saddr . ${IP6_SOURCE} @ports6 accept
    ip6 saddr fe80::/10 drop
    counter name spoofed drop
  }
}
`;

function byText(elements: readonly Element[]): Map<string, Element> {
  return new Map(elements.map((element) => [element.text, element]));
}

function statements(verb: "add" | "delete", elements: readonly Element[]): string {
  return (["ports", "ports6"] as const)
    .map((set) => {
      const texts = elements.filter((element) => element.set === set).map(({ text }) => text);
      return texts.length === 0
        ? ""
        : `${verb} element bridge ${TABLE} ${set} { ${texts.join(", ")} }\n`;
    })
    .join("");
}

function elementsOf(table: readonly unknown[]): Element[] {
  return table.flatMap((entry): Element[] => {
    const { set } = entry as {
      set?: { name: string; elem?: { concat: [string, string, string | number] }[] };
    };
    if (set?.name !== "ports" && set?.name !== "ports6") return [];
    const name = set.name;
    return (set.elem ?? []).map(({ concat: [port, mac, ip] }) => ({
      set: name,
      port,
      text: `"${port}" . ${mac} . ${name === "ports" ? ip : rawIp6(ip)}`,
    }));
  });
}

/** nft's JSON has a number as such when it fits 64 bits, else as hex digits without leading zeros. */
function rawIp6(value: string | number): string {
  return `0x${BigInt(value).toString(16).padStart(32, "0")}`;
}
