import { hex } from "../../../shared/codec.ts";
import { familyOf, type Ip, ipToBytes } from "../../../shared/ip.ts";
import type { Mac } from "../../../shared/mac.ts";

/** nftables of family bridge that let a container's port speak only from what is its own, as text and back. */

/** A MAC and an address that a port may speak from, as nft writes them. */
export interface Element {
  readonly set: "ports" | "ports6";
  readonly port: string;
  readonly mac: string;
  readonly address: string;
  readonly text: string;
}

/** A port of a container, which may leave by the network's way out: no other is in `routed`. */
export interface RoutedPort {
  readonly set: "routed";
  readonly port: string;
  readonly text: string;
}

/** Of packets to the bridge itself that a container of this host sent (nft/transit-filter.ts). */
export const OF_A_CONTAINER = "0x1";

export function routedPort(port: string): RoutedPort {
  return { set: "routed", port, text: `"${port}"` };
}

export function elementOf(port: string, mac: Mac, ip: Ip): Element {
  return familyOf(ip) === 4
    ? element("ports", port, mac, ip)
    : element("ports6", port, mac, `0x${hex(ipToBytes(ip))}`);
}

function element(set: Element["set"], port: string, mac: string, address: string): Element {
  return { set, port, mac, address, text: `"${port}" . ${mac} . ${address}` };
}

/** Raw, as one type with the target of an advertisement (RFC 4861, 4.4): offset and length in bits. */
const IP6_SOURCE = "@nh,64,128";
const ND_TARGET = "@th,64,128";

/**
 * `enter`: which frames are a container's.
 *
 * From `::` an interface asks whether its address is taken: nobody else can have it, silence is the
 * answer. What an interface of an IPv4 network says from its link-local address is no attempt to spoof.
 */
export function portRules(
  table: string,
  enter: string,
  { sets, chains = "" }: { readonly sets: readonly string[]; readonly chains?: string },
): string {
  return `table bridge ${table} {}
delete table bridge ${table}
table bridge ${table} {
  counter spoofed {}
${sets.map((set) => `  set ${set}\n`).join("")}  set ports { type ifname . ether_addr . ipv4_addr; }
  set ports6 { typeof iifname . ether saddr . ${IP6_SOURCE}; }
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    ${enter} jump container
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
${chains}}
`;
}

/**
 * Frames to the bridge itself, which has the gateways' addresses and on all hosts the same MAC: what comes from another
 * host is not for this one to route. Broadcasts come to every port, and are not counted.
 */
export const TO_BRIDGE = `  counter routedForOthers {}
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "vx0" meta pkttype != host drop
    iifname "vx0" counter name routedForOthers drop
    iifname @routed meta mark set ${OF_A_CONTAINER}
  }
`;

export function statements(
  table: string,
  verb: "add" | "delete",
  elements: readonly (Element | RoutedPort)[],
): string {
  return (["ports", "ports6", "routed"] as const)
    .map((set) => {
      const texts = elements.filter((element) => element.set === set).map(({ text }) => text);
      return texts.length === 0
        ? ""
        : `${verb} element bridge ${table} ${set} { ${texts.join(", ")} }\n`;
    })
    .join("");
}

export function elementsOf(table: readonly unknown[]): Element[] {
  return table.flatMap((entry): Element[] => {
    const { set } = entry as {
      set?: { name: string; elem?: { concat: [string, string, string | number] }[] };
    };
    if (set?.name !== "ports" && set?.name !== "ports6") return [];
    const name = set.name;
    return (set.elem ?? []).map(({ concat: [port, mac, ip] }) =>
      element(name, port, mac, name === "ports" ? `${ip}` : rawIp6(ip)),
    );
  });
}

export function routedIn(table: readonly unknown[]): RoutedPort[] {
  return table.flatMap((entry) => {
    const { set } = entry as { set?: { name: string; elem?: string[] } };
    return set?.name === "routed" ? (set.elem ?? []).map(routedPort) : [];
  });
}

/** nft's JSON has a number as such when it fits 64 bits, else as hex digits without leading zeros. */
function rawIp6(value: string | number): string {
  return `0x${BigInt(value).toString(16).padStart(32, "0")}`;
}
