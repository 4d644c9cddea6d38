import { hex } from "../../../shared/codec.ts";
import { ADDRESS_BITS, type Cidr, familyOf, ipToBytes, prefixLength } from "../../../shared/ip.ts";
import type { DesiredGuards } from "../../core/data-plane/kernel-state.ts";

export const SETS = [
  "vteps",
  "hosting",
  "speakers",
  "speakers6",
  "exposed",
  "exposed6",
  "sealed",
  "sealed6",
] as const;
/** The elements of each, as nft(8) is told them. */
export type Sets = Readonly<Record<(typeof SETS)[number], readonly string[]>>;

export function setsOf({ vteps, hosting, speakers, exposed, sealed }: DesiredGuards): Sets {
  const unique = (elements: string[]): string[] => [...new Set(elements)].toSorted();
  const frames = (of: DesiredGuards["speakers"], family: 4 | 6): string[] =>
    of
      .filter(({ ip }) => familyOf(ip) === family)
      .map(
        ({ vtep, vni, mac, ip }) =>
          `${vtep} . ${vni} . 0x${mac.replaceAll(":", "")} . 0x${hex(ipToBytes(ip))}`,
      );
  return {
    vteps: unique(vteps.map(String)),
    hosting: unique(hosting.map(({ vtep, vni }) => `${vtep} . ${vni}`)),
    speakers: unique(frames(speakers, 4)),
    speakers6: unique(frames(speakers, 6)),
    exposed: unique(frames(exposed, 4)),
    exposed6: unique(frames(exposed, 6)),
    sealed: sealedOf(sealed, 4),
    sealed6: sealedOf(sealed, 6),
  };
}

export function sealedOf(sealed: readonly Cidr[], family: 4 | 6): string[] {
  return sealed.filter((subnet) => familyOf(subnet) === family).map(asListed);
}

/** One address is listed without a length. */
function asListed(subnet: Cidr): string {
  const whole = prefixLength(subnet) === ADDRESS_BITS[familyOf(subnet)];
  return whole ? subnet.slice(0, subnet.indexOf("/")) : subnet;
}

/** What makes of the one the other; empty: nothing. */
export function difference(table: string, held: Sets, wanted: Sets): string {
  const lines: string[] = [];
  for (const name of SETS) {
    const before = new Set(held[name]);
    const after = new Set(wanted[name]);
    const added = wanted[name].filter((element) => !before.has(element));
    const removed = held[name].filter((element) => !after.has(element));
    const element = `element inet ${table} ${name}`;
    if (added.length > 0) lines.push(`add ${element} { ${added.join(", ")} }`);
    if (removed.length > 0) lines.push(`delete ${element} { ${removed.join(", ")} }`);
  }
  return lines.join("\n");
}

/** Of a table that was listed. */
export function elementsOf(table: readonly unknown[]): Record<keyof Sets, string[]> {
  const found: Record<keyof Sets, string[]> = {
    vteps: [],
    hosting: [],
    speakers: [],
    speakers6: [],
    exposed: [],
    exposed6: [],
    sealed: [],
    sealed6: [],
  };
  for (const entry of table) {
    const { set } = entry as { set?: { name: string; elem?: Listed[] } };
    if (set !== undefined && set.name in found)
      found[set.name as keyof Sets] = (set.elem ?? []).map(textOf);
  }
  return found;
}

type Listed = string | { prefix: { addr: string; len: number } } | { concat: unknown[] };

function textOf(element: Listed): string {
  if (typeof element === "string") return element;
  if ("prefix" in element) return `${element.prefix.addr}/${element.prefix.len}`;
  return normalElement(element.concat.map(String).join(" . "));
}

/** As nft's JSON has it: numbers decimal. */
export function normalElement(element: string): string {
  return element
    .split(" . ")
    .map((part) => (part.startsWith("0x") ? BigInt(part).toString() : part))
    .join(" . ");
}
