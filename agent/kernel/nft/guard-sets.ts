import { hex } from "../../../shared/codec.ts";
import { ADDRESS_BITS, type Cidr, familyOf, ipToBytes, prefixLength } from "../../../shared/ip.ts";
import { changedGroups, changedPart, differentPart } from "../../core/data-plane/changed-part.ts";
import type { DesiredGuards, SpeakerGroup } from "../../core/data-plane/kernel-state.ts";

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

type SetName = (typeof SETS)[number];

/** Elements that come and go, of each set that changes. */
export type ElementChanges = ReadonlyMap<
  SetName,
  { readonly added: readonly string[]; readonly removed: readonly string[] }
>;

const NOTHING: Pick<DesiredGuards, "vteps" | "hosting" | "speakers" | "exposed" | "sealed"> = {
  vteps: [],
  hosting: [],
  speakers: [],
  exposed: [],
  sealed: [],
};
type Lists = typeof NOTHING;

/**
 * The elements that were written, kept by what changes: a container more or less costs its own elements. An element
 * that is named twice goes with the last that names it.
 */
export class GuardElements {
  #lists: Lists = NOTHING;
  readonly #counts = Object.fromEntries(
    SETS.map((name) => [name, new Map<string, number>()]),
  ) as Record<SetName, Map<string, number>>;

  constructor(lists: Lists) {
    this.written(lists);
  }

  /** What makes of those written these. */
  changesTo(lists: Lists): ElementChanges {
    return this.#changes(timesMore(this.#lists, lists));
  }

  written(lists: Lists): void {
    for (const [name, more] of timesMore(this.#lists, lists))
      for (const [element, times] of more) {
        const count = (this.#counts[name].get(element) ?? 0) + times;
        if (count === 0) this.#counts[name].delete(element);
        else this.#counts[name].set(element, count);
      }
    this.#lists = lists;
  }

  of(name: SetName): string[] {
    return [...this.#counts[name].keys()];
  }

  all(): Sets {
    return Object.fromEntries(SETS.map((name) => [name, this.of(name)])) as unknown as Sets;
  }

  /** What was kept is what follows from the lists as a whole. */
  isWhole(): boolean {
    const anew = new GuardElements(this.#lists);
    return SETS.every((name) => {
      const [is, should] = [this.#counts[name], anew.#counts[name]];
      return is.size === should.size && [...should].every(([one, n]) => is.get(one) === n);
    });
  }

  #changes(all: TimesMore): ElementChanges {
    const changes = new Map<SetName, { added: string[]; removed: string[] }>();
    for (const [name, more] of all) {
      const [added, removed]: [string[], string[]] = [[], []];
      for (const [element, times] of more) {
        const count = this.#counts[name].get(element) ?? 0;
        if (count === 0 && times > 0) added.push(element);
        if (count > 0 && count + times === 0) removed.push(element);
      }
      if (added.length + removed.length > 0) changes.set(name, { added, removed });
    }
    return changes;
  }
}

/** How many times more than before an element is named, by set. */
type TimesMore = ReadonlyMap<SetName, ReadonlyMap<string, number>>;

function timesMore(before: Lists, after: Lists): TimesMore {
  const found = new Map<SetName, Map<string, number>>();
  const add = (name: SetName, element: string, times: 1 | -1): void => {
    let elements = found.get(name);
    if (elements === undefined) found.set(name, (elements = new Map()));
    elements.set(element, (elements.get(element) ?? 0) + times);
  };
  const differ = <T>(part: Differing<T>, of: (each: T) => Iterable<readonly [SetName, string]>) => {
    for (const each of part.before) for (const [name, text] of of(each)) add(name, text, -1);
    for (const each of part.after) for (const [name, text] of of(each)) add(name, text, 1);
  };
  differ(changedPart(before.vteps, after.vteps), (vtep) => [["vteps", vtep]]);
  differ(differentPart(before.hosting, after.hosting, sameHosting), ({ vtep, vni }) => [
    ["hosting", `${vtep} . ${vni}`],
  ]);
  differ(changedGroups(before.speakers, after.speakers, sameSpeaking), (group) =>
    framesOf(group, "speakers", "speakers6"),
  );
  differ(changedGroups(before.exposed, after.exposed, sameSpeaking), (group) =>
    framesOf(group, "exposed", "exposed6"),
  );
  differ(changedPart(before.sealed, after.sealed), (subnet) => [
    [familyOf(subnet) === 4 ? "sealed" : "sealed6", asListed(subnet)],
  ]);
  return found;
}

type Differing<T> = { readonly before: readonly T[]; readonly after: readonly T[] };
type Hosting = Lists["hosting"][number];

function sameHosting(a: Hosting, b: Hosting): boolean {
  return a.vtep === b.vtep && a.vni === b.vni;
}

function sameSpeaking(a: SpeakerGroup, b: SpeakerGroup): boolean {
  return a.vtep === b.vtep && a.vni === b.vni;
}

function framesOf<Name extends SetName>(
  { vtep, vni, members }: SpeakerGroup,
  ipv4: Name,
  ipv6: Name,
): (readonly [Name, string])[] {
  return members.flatMap(({ mac, ips }) => {
    const speaker = `${vtep} . ${vni} . 0x${mac.replaceAll(":", "")} . 0x`;
    return ips.map(
      (ip) => [familyOf(ip) === 4 ? ipv4 : ipv6, speaker + hex(ipToBytes(ip))] as const,
    );
  });
}

export function sealedOf(sealed: readonly Cidr[], family: 4 | 6): string[] {
  return sealed.filter((subnet) => familyOf(subnet) === family).map(asListed);
}

/** One address is listed without a length. */
function asListed(subnet: Cidr): string {
  const whole = prefixLength(subnet) === ADDRESS_BITS[familyOf(subnet)];
  return whole ? subnet.slice(0, subnet.indexOf("/")) : subnet;
}

/** The changes as nft(8) is told them; empty: none. */
export function scriptOf(table: string, changes: ElementChanges): string {
  const lines: string[] = [];
  for (const [name, { added, removed }] of changes) {
    const element = `element inet ${table} ${name}`;
    if (added.length > 0) lines.push(`add ${element} { ${added.join(", ")} }`);
    if (removed.length > 0) lines.push(`delete ${element} { ${removed.join(", ")} }`);
  }
  return lines.join("\n");
}

/** How many elements a script of these writes. */
export function elementCount(changes: ElementChanges): number {
  let count = 0;
  for (const { added, removed } of changes.values()) count += added.length + removed.length;
  return count;
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
