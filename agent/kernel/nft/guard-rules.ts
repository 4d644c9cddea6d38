import { PROOF_VNI_IPSEC, PROOF_VNI_PLAIN } from "../../../shared/ids.ts";
import type { DesiredGuards } from "../../core/data-plane/kernel-state.ts";
import { TRANSIT_LINKS } from "../../core/data-plane/transit.ts";
import type { Sets } from "./guard-sets.ts";

export const TABLE = "overlay_ts";
/** What stays of it with containers that still run on a host that left. */
export const LEFT_TABLE = "overlay_ts_left";

const REASONS = [
  "ownProcess",
  "forwarded",
  "stranger",
  "notHosting",
  "notSpeaker",
  "unusedClass",
  "unencrypted",
  "throughHost",
  "aroundNetwork",
  "unpublished",
  "toMesh",
] as const;
type Reason = (typeof REASONS)[number];

const drop = (why: Reason): string => `counter name ${why} drop`;

/** Where containers come from that have a way out; bridges of users' own networks are `br-…`. */
const WAYS_OUT = [`iifname { "docker0", "docker_gwbridge" }`, `iifname "${TRANSIT_LINKS}*"`];

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

/**
 * A packet of a process has a socket with an owner, one of the kernel's VXLAN has none of this namespace, unless it
 * carries what a process of this host sends by the host's own address in a network (`expose`): whoever may open a
 * socket on this host sends from the VTEP's address. A bridge `br-…` can also be the host's own uplink, which
 * has the address that peers connect to: then it is no container's.
 */
export function wholeTable(
  { classPorts, meshPorts, underlayFamily, ipsec: open }: DesiredGuards,
  sets: Sets,
): string {
  const [ip, other] = underlayFamily === 4 ? (["ip", "ipv6"] as const) : (["ip6", "ipv4"] as const);
  const { plain, wireguard, ipsec } = classPorts;
  const all = `udp dport { ${plain}, ${wireguard}, ${ipsec} }`;
  const set = (name: keyof Sets, type: string): string => setOf(sets, name, type);
  const mesh = `tcp dport { ${meshPorts.join(", ")} }`;
  /** By class: of WireGuard's nothing is in this namespace. */
  const byClass = (way: "Out" | "In"): string =>
    `udp dport vmap { ${plain} : goto plain${way}, ${wireguard} : goto unused${way}, ${ipsec} : goto ${open ? "esp" : "unused"}${way} }`;
  return `table inet ${TABLE} {}
delete table inet ${TABLE}
table inet ${TABLE} {
${REASONS.map((reason) => `  counter ${reason} {}`).join("\n")}
${set("vteps", `type ipv${underlayFamily}_addr`)}
${set("hosting", `typeof ${ip} saddr . ${VNI}`)}
${set("speakers", `typeof ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${IP_SOURCE}`)}
${set("speakers6", `typeof ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${IP6_SOURCE}`)}
${set("exposed", `typeof ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${IP_SOURCE}`)}
${set("exposed6", `typeof ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${IP6_SOURCE}`)}
${sealedSets(sets)}
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    ${all} jump arriving
  }
  chain arriving {
    fib saddr . iif oif missing ${drop("forwarded")}
    notrack
  }
  chain forward {
    type filter hook forward priority raw; policy accept;
    ${all} ${drop("forwarded")}
    iifname "ovc*" ${drop("throughHost")}
    oifname "ovc*" ${drop("throughHost")}
${AROUND}
${WAYS_OUT.map((from) => `    ${from} ${mesh} ${ip} daddr @vteps ${drop("toMesh")}\n`).join("")}    oifname "docker_gwbridge" jump wayOut
  }
  chain wayOut {
    ct state established,related return
    ct status dnat return
    ${drop("unpublished")}
  }
  chain output {
    type filter hook output priority raw; policy accept;
    ${byClass("Out")}
  }
  chain ownProcess {
    ${ETHER_TYPE} 0x0800 ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${IP_SOURCE} @exposed return
    ${ETHER_TYPE} 0x86dd ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${IP6_SOURCE} @exposed6 return
    ${drop("ownProcess")}
  }
  chain input {
    type filter hook input priority raw; policy accept;
    ${byClass("In")}
    ${mesh} jump toMesh
  }
${CLASS_CHAINS}${open ? ESP_CHAINS : ""}
  chain toMesh {
${WAYS_OUT.map((from) => `    ${from} ${drop("toMesh")}\n`).join("")}    iifname "ovc*" ${drop("toMesh")}
    iifname "br-*" fib daddr . iif type != local ${drop("toMesh")}
  }
${insideChains(ip, other)}
}
`;
}

/** Where packets on the classes' ports go, out and in. */
const CLASS_CHAINS = `  chain plainOut {
    meta skuid >= 0 jump ownProcess
    notrack
  }
  chain unusedOut {
    meta skuid >= 0 jump ownProcess
    ${drop("unusedClass")}
  }
  chain unusedIn {
    ${drop("unusedClass")}
  }`;

/** The second lock: the first are policies of the kernel's IPsec. Without that a kernel does not know these words. */
const ESP_CHAINS = `
  chain espOut {
    meta skuid >= 0 jump ownProcess
    rt ipsec missing ${drop("unencrypted")}
    notrack
  }
  chain espIn {
    meta secpath missing ${drop("unencrypted")}
    goto plainIn
  }`;

/**
 * Who may send what inside VXLAN: hosts that are on the network, for containers that are theirs. What most packets are is
 * looked up first: a speaker is on the network, and has a VTEP of the cluster (`desiredGuards`).
 *
 * Of IPv6 inside, extension headers before ICMPv6 are dropped: behind them an advertisement would not
 * be looked at, and the receiver would take it. Routers and redirects (134, 137) are no host's to be.
 */
function insideChains(ip: "ip" | "ip6", other: "ipv4" | "ipv6"): string {
  return `  chain plainIn {
    ${ETHER_TYPE} 0x0800 ${ip} saddr . ${VNI} . ${ETHER_SOURCE} . ${IP_SOURCE} @speakers accept
    meta nfproto ${other} ${drop("stranger")}
    ${ip} saddr != @vteps ${drop("stranger")}
    ${VNI} { ${PROOF_VNI_PLAIN}, ${PROOF_VNI_IPSEC} } accept
    ${ip} saddr . ${VNI} != @hosting ${drop("notHosting")}
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
  }`;
}

/** Alone, for a host that left: its containers have lost their interfaces, and their default route is left. */
export function leftTable(sets: Pick<Sets, "sealed" | "sealed6">): string {
  return `table inet ${LEFT_TABLE} {}
delete table inet ${LEFT_TABLE}
table inet ${LEFT_TABLE} {
  counter aroundNetwork {}
${sealedSets(sets)}
  chain forward {
    type filter hook forward priority raw; policy accept;
${AROUND}
  }
}
`;
}

export function withoutTable(name: string): string {
  return `table inet ${name} {}\ndelete table inet ${name}\n`;
}

/** Whatever way out a container has, it leads to no network that is to be reached by its own interface only. */
const AROUND = `    ip daddr @sealed ${drop("aroundNetwork")}
    ip6 daddr @sealed6 ${drop("aroundNetwork")}`;

function sealedSets(sets: Pick<Sets, "sealed" | "sealed6">): string {
  return `${setOf(sets, "sealed", "type ipv4_addr; flags interval")}
${setOf(sets, "sealed6", "type ipv6_addr; flags interval")}`;
}

function setOf<Name extends keyof Sets>(sets: Pick<Sets, Name>, name: Name, type: string): string {
  const elements = sets[name].length === 0 ? "" : `elements = { ${sets[name].join(", ")} }`;
  return `  set ${name} { ${type}; ${elements} }`;
}
