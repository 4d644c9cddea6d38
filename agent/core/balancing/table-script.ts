import type { Ip } from "../../../shared/ip.ts";
import type { ClientTable, End } from "./client-table.ts";

/** The nft table in a client's namespace, as nft is told it. Its name says that it is ours. */

export const TABLE_NAME = "overlay_ts_vip";
const TABLE = `inet ${TABLE_NAME}`;

/**
 * `output` is what the client's own processes send, `prerouting` what containers within it do. Before Docker's rules at -100:
 * the first that translates a connection decides. What is translated was looked up again by the kernel, so nobody asks for the
 * virtual address by ARP, and a member that chose itself is reached by `lo`.
 *
 * `invalid` is dropped first: what conntrack does not know is not translated back, so the client's kernel would answer a late
 * packet of a member by a reset to that member, or be refused itself for one to a virtual address.
 *
 * One look-up a packet, by family: what an address is to this client says what becomes of it.
 */
const CHAINS = `  chain member { ct state invalid drop; }
  chain gone {
    ct state invalid drop
    ct status dnat meta l4proto tcp reject with tcp reset
    ct status dnat reject
  }
  chain refused {
    ct state invalid drop
    meta l4proto tcp reject with tcp reset
    reject
  }
  chain output {
    type nat hook output priority -110; policy accept;
    ip daddr vmap @services
    ip6 daddr vmap @services6
  }
  chain prerouting {
    type nat hook prerouting priority -110; policy accept;
    ip daddr vmap @services
    ip6 daddr vmap @services6
  }
  chain leaving {
    type filter hook output priority 0; policy accept;
    ip daddr vmap @ends
    ip6 daddr vmap @ends6
  }
  chain passing {
    type filter hook forward priority 0; policy accept;
    ip daddr vmap @ends
    ip6 daddr vmap @ends6
  }`;

/** All of it, in one transaction. `over`: one is there, which goes in the same moment. */
export function wholeScript(table: ClientTable, over: boolean): string {
  const lines = [
    `table ${TABLE} {`,
    "  map services { type ipv4_addr : verdict; }",
    "  map services6 { type ipv6_addr : verdict; }",
    "  map ends { type ipv4_addr : verdict; }",
    "  map ends6 { type ipv6_addr : verdict; }",
    CHAINS,
    ...[...table.services].map(
      ([virtual, to]) => `  chain ${chainOf(virtual)} {\n    ${rule(to)}\n  }`,
    ),
    "}",
    ...elements("add", "services", servicesOf(table)),
    ...elements("add", "ends", endsOf(table)),
  ];
  return `${over ? `delete table ${TABLE}\n` : ""}${lines.join("\n")}\n`;
}

/** Undefined: nothing differs. In one transaction: no packet meets half of it. */
export function changeScript(from: ClientTable, to: ClientTable): string | undefined {
  const ended = [...from.services.keys()].filter((virtual) => !to.services.has(virtual));
  const begun = [...to.services].filter(([virtual]) => !from.services.has(virtual));
  const changed = [...to.services].filter(([virtual, members]) => {
    const before = from.services.get(virtual);
    return before !== undefined && before.join() !== members.join();
  });
  const [endsBefore, endsAfter] = [endsOf(from), endsOf(to)];
  const lines = [
    ...elements("delete", "services", ended.map(serviceElement)),
    ...elements("delete", "ends", missingIn(endsAfter, endsBefore)),
    ...ended.flatMap((virtual) => [
      `flush chain ${TABLE} ${chainOf(virtual)}`,
      `delete chain ${TABLE} ${chainOf(virtual)}`,
    ]),
    ...begun.map(([virtual]) => `add chain ${TABLE} ${chainOf(virtual)}`),
    ...changed.map(([virtual]) => `flush chain ${TABLE} ${chainOf(virtual)}`),
    ...[...begun, ...changed].flatMap(([virtual, members]) =>
      members.length === 0 ? [] : [`add rule ${TABLE} ${chainOf(virtual)} ${rule(members)}`],
    ),
    ...elements(
      "add",
      "services",
      begun.map(([virtual]) => serviceElement(virtual)),
    ),
    ...elements("add", "ends", missingIn(endsBefore, endsAfter)),
  ];
  return lines.length === 0 ? undefined : `${lines.join("\n")}\n`;
}

/** Only in a namespace that goes on without us: its connections by virtual addresses end. */
export const NO_TABLE_SCRIPT = `delete table ${TABLE}\n`;

export const TABLE_TO_LIST = TABLE;

interface Element {
  readonly address: Ip;
  readonly text: string;
}

/** What a chain's name may hold (nft(8)); an address is one of its own. */
function chainOf(virtual: Ip): string {
  return `v_${virtual.replaceAll(":", "-")}`;
}

/** Nobody: the packet goes on to `refused`. Only a connection's first packet comes here. */
function rule(members: readonly Ip[]): string {
  const [first] = members;
  if (first === undefined) return "";
  const dnat = isIpv6(first) ? "dnat ip6 to" : "dnat ip to";
  if (members.length === 1) return `${dnat} ${first}`;
  const map = members.map((member, i) => `${i} : ${member}`).join(", ");
  return `${dnat} numgen random mod ${members.length} map { ${map} }`;
}

function serviceElement(virtual: Ip): Element {
  return { address: virtual, text: `${virtual} : goto ${chainOf(virtual)}` };
}

function endElement([address, end]: readonly [Ip, End]): Element {
  return { address, text: `${address} : goto ${end}` };
}

function servicesOf({ services }: ClientTable): Element[] {
  return [...services.keys()].map(serviceElement);
}

function endsOf({ ends }: ClientTable): Element[] {
  return [...ends].map(endElement);
}

/** Those of `all` that are not in `here`, as they are. */
function missingIn(here: readonly Element[], all: readonly Element[]): Element[] {
  const texts = new Set(here.map(({ text }) => text));
  return all.filter(({ text }) => !texts.has(text));
}

function elements(
  verb: "add" | "delete",
  map: "services" | "ends",
  all: readonly Element[],
): string[] {
  return ["", "6"].flatMap((family) => {
    const own = all.filter(({ address }) => isIpv6(address) === (family === "6"));
    if (own.length === 0) return [];
    const texts = own.map(({ address, text }) => (verb === "add" ? text : address));
    return [`${verb} element ${TABLE} ${map}${family} { ${texts.join(", ")} }`];
  });
}

/** Not that of `shared/ip.ts`: the thread that writes tables loads no parser of addresses. */
function isIpv6(address: Ip): boolean {
  return address.includes(":");
}
