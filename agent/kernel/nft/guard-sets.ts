import { hex } from "../../../shared/codec.ts";
import {
  ADDRESS_BITS,
  type Cidr,
  type Family,
  familyOf,
  ipToBytes,
  prefixLength,
} from "../../../shared/ip.ts";
import { changedPart } from "../../core/data-plane/changed-part.ts";
import type { DesiredGuards, Speaker } from "../../core/data-plane/kernel-state.ts";

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

/** In the order of `desired`: what is as it was before is where it was before. */
export function setsOf({ vteps, hosting, speakers, exposed, sealed }: DesiredGuards): Sets {
  const frames = (of: readonly Speaker[], family: Family): string[] =>
    of.flatMap((speaker) => {
      const frame = frameOf(speaker);
      return frame.family === family ? [frame.text] : [];
    });
  return {
    vteps: vteps.map(String),
    hosting: hosting.map(({ vtep, vni }) => `${vtep} . ${vni}`),
    speakers: frames(speakers, 4),
    speakers6: frames(speakers, 6),
    exposed: frames(exposed, 4),
    exposed6: frames(exposed, 6),
    sealed: sealedOf(sealed, 4),
    sealed6: sealedOf(sealed, 6),
  };
}

interface Frame {
  readonly family: Family;
  readonly text: string;
}

/** Speakers are never changed, only replaced. */
const frames = new WeakMap<Speaker, Frame>();

function frameOf(speaker: Speaker): Frame {
  let frame = frames.get(speaker);
  if (frame === undefined) {
    const { vtep, vni, mac, ip } = speaker;
    const text = `${vtep} . ${vni} . 0x${mac.replaceAll(":", "")} . 0x${hex(ipToBytes(ip))}`;
    frames.set(speaker, (frame = { family: familyOf(ip), text }));
  }
  return frame;
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
    const changed = changedPart(held[name], wanted[name]);
    const [before, after] = [new Set(changed.before), new Set(changed.after)];
    const added = [...after].filter((element) => !before.has(element));
    // What is named twice goes with the last that names it.
    const removed = [...before].filter(
      (element) => !after.has(element) && !wanted[name].includes(element),
    );
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
