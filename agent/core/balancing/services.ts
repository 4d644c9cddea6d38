import type { VipRecord } from "../../../shared/cluster-state.ts";
import type { EndpointId } from "../../../shared/ids.ts";
import { familiesOf, type Endpoint } from "../../../shared/documents.ts";
import { type NamedHost, namesOf, outOf } from "../names/names.ts";
import type { GoneAddress, MemberState, Service, ServiceMember } from "./service.ts";

/** Longer than a client waits for an answer; who sends later meets no rule any more, and is told by whoever has the address. */
export const GONE_MS = 600_000;
/** Of one service; the oldest are forgotten first. */
const MOST_GONE = 256;

/** A network as services need it. */
export interface BalancedView {
  /** Of this network. */
  readonly vips: readonly VipRecord[];
  /** Whose endpoints count there, and whether they are reached. */
  readonly hosts: readonly NamedHost[];
}

interface Addresses {
  readonly ipv4: Endpoint["ipv4"];
  readonly ipv6: Endpoint["ipv6"];
}

interface Gone extends Addresses {
  readonly untilMs: number;
}

/** What the next view needs of those before it. */
interface Remembered {
  readonly ips: string;
  readonly members: ReadonlyMap<EndpointId, Addresses>;
  /** In the order in which they ended. */
  readonly gone: ReadonlyMap<EndpointId, Gone>;
}

export interface Balanced {
  /** In the order of their names. */
  readonly services: readonly Service[];
  readonly remembered: ReadonlyMap<string, Remembered>;
  /** When the first gone address is forgotten: to be asked again then. */
  readonly nextMs: number | undefined;
}

export const NOTHING_BALANCED: Balanced = {
  services: [],
  remembered: new Map(),
  nextMs: undefined,
};

interface Present {
  readonly endpoint: Endpoint;
  readonly state: MemberState;
}

/**
 * The services of a network. Members are whoever has the name now; who had it and lost it is a draining member as long as its
 * endpoint is there, and a gone address afterwards: until somebody has it, or for ten minutes.
 */
export function balance(before: Balanced, { vips, hosts }: BalancedView, nowMs: number): Balanced {
  if (vips.length === 0) return NOTHING_BALANCED;
  const { byName, present, claimed } = read(hosts, new Set(vips.map(({ name }) => name)));
  const remembered = new Map<string, Remembered>();
  const services: Service[] = [];
  let nextMs = Infinity;
  for (const vip of vips.toSorted((a, b) => byText(a.name, b.name))) {
    const ips = vip.ips.join(" ");
    const held = before.remembered.get(vip.name);
    // Made anew it has no connections of before.
    const was = held?.ips === ips ? held : undefined;
    const states = new Map<EndpointId, Present>();
    for (const id of was?.members.keys() ?? []) {
      const there = present.get(id);
      if (there !== undefined) states.set(id, { ...there, state: drained(there.state) });
    }
    for (const id of byName.get(vip.name) ?? []) states.set(id, present.get(id)!);
    const members = [...states].toSorted(([a], [b]) => byText(a, b)).map(memberOf);
    const gone = goneOf(was, states, { claimed, nowMs });
    for (const { untilMs } of gone.values()) nextMs = Math.min(nextMs, untilMs);
    remembered.set(vip.name, {
      ips,
      members: new Map(members.map(({ endpoint, ipv4, ipv6 }) => [endpoint, { ipv4, ipv6 }])),
      gone,
    });
    const { network, name, sticky } = vip;
    const { ipv4, ipv6 } = familiesOf(vip.ips);
    services.push({ network, name, ipv4, ipv6, sticky, members, gone: inOrder(gone) });
  }
  return { services, remembered, nextMs: nextMs === Infinity ? undefined : nextMs };
}

/** `names`: those that are asked for. */
function read(
  hosts: readonly NamedHost[],
  names: ReadonlySet<string>,
): {
  readonly byName: ReadonlyMap<string, readonly EndpointId[]>;
  readonly present: ReadonlyMap<EndpointId, Present>;
  readonly claimed: ReadonlySet<string>;
} {
  const byName = new Map<string, EndpointId[]>();
  const present = new Map<EndpointId, Present>();
  const claimed = new Set<string>();
  for (const { unhealthyNames, isLost, members } of hosts)
    for (const { endpoint } of members) {
      const out = outOf(endpoint, { unhealthyNames });
      const state = isLost ? "unreachable" : out === undefined ? "ready" : "draining";
      present.set(endpoint.id, { endpoint, state });
      for (const ip of [endpoint.ipv4, endpoint.ipv6]) if (ip !== undefined) claimed.add(ip);
      for (const name of namesOf(endpoint)) {
        if (!names.has(name)) continue;
        const same = byName.get(name);
        if (same === undefined) byName.set(name, [endpoint.id]);
        else same.push(endpoint.id);
      }
    }
  return { byName, present, claimed };
}

/** It has the name no more: nothing new goes there. */
function drained(state: MemberState): MemberState {
  return state === "ready" ? "draining" : state;
}

function memberOf([id, { endpoint, state }]: readonly [EndpointId, Present]): ServiceMember {
  const { ipv4, ipv6 } = endpoint;
  return { endpoint: id, ipv4, ipv6, state };
}

/** Of those before and of members that are no more: what nobody has. */
function goneOf(
  was: Remembered | undefined,
  states: ReadonlyMap<EndpointId, Present>,
  { claimed, nowMs }: { readonly claimed: ReadonlySet<string>; readonly nowMs: number },
): Map<EndpointId, Gone> {
  const gone = new Map<EndpointId, Gone>();
  const add = (id: EndpointId, { ipv4, ipv6, untilMs }: Gone): void => {
    const free = {
      ipv4: ipv4 !== undefined && claimed.has(ipv4) ? undefined : ipv4,
      ipv6: ipv6 !== undefined && claimed.has(ipv6) ? undefined : ipv6,
    };
    if (free.ipv4 !== undefined || free.ipv6 !== undefined) gone.set(id, { ...free, untilMs });
  };
  for (const [id, left] of was?.gone ?? [])
    if (left.untilMs > nowMs && !states.has(id)) add(id, left);
  for (const [id, left] of was?.members ?? [])
    if (!states.has(id)) add(id, { ...left, untilMs: nowMs + GONE_MS });
  for (const id of gone.keys()) {
    if (gone.size <= MOST_GONE) break;
    gone.delete(id);
  }
  return gone;
}

/** Each address once, in the order of their text. */
function inOrder(gone: ReadonlyMap<EndpointId, Gone>): GoneAddress[] {
  const seen = new Set<string>();
  const once = <T extends string>(ip: T | undefined): T | undefined => {
    if (ip === undefined || seen.has(ip)) return undefined;
    seen.add(ip);
    return ip;
  };
  return [...gone.values()]
    .map(({ ipv4, ipv6 }) => ({ ipv4: once(ipv4), ipv6: once(ipv6) }))
    .filter(({ ipv4, ipv6 }) => ipv4 !== undefined || ipv6 !== undefined)
    .toSorted((a, b) => byText(textOf(a), textOf(b)));
}

function textOf({ ipv4, ipv6 }: GoneAddress): string {
  return `${ipv4 ?? ""} ${ipv6 ?? ""}`;
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
