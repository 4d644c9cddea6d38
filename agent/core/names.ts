import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { canonicalName, isName } from "../../shared/dns-name.ts";
import { claimedAddresses, type Endpoint } from "../../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../../shared/ids.ts";
import { type Family, familyOf, type Ip } from "../../shared/ip.ts";
import { readNetwork } from "./desired.ts";
import type { Tables } from "./tables.ts";

/**
 * Why a holder of a name is in no answer. The first four are said by its own host; `unreachable` is
 * what this host finds itself.
 */
export const OUT_REASONS = ["starting", "unhealthy", "paused", "stopping", "unreachable"] as const;
export type OutReason = (typeof OUT_REASONS)[number];

/** What a health check says, and `-o dns.unhealthy=include` passes over. */
const HEALTH_REASONS: readonly string[] = ["starting", "unhealthy"];

/** An endpoint as a holder of names. */
export interface Holder {
  readonly endpoint: EndpointId;
  readonly node: NodeId;
  /** Canonical; the container's own name first. */
  readonly names: readonly string[];
  /** IPv4 first; at least one. */
  readonly ips: readonly Ip[];
  /** An `OutReason`, or one of a later version. */
  readonly out: string | undefined;
}

/** A network as names need it. */
export interface NamedNetwork {
  readonly network: NetworkId;
  /** Canonical: `<name>.<network>`. Undefined: Docker has not told it yet. */
  readonly name: string | undefined;
  /** Peers' documents were had: that a name is not known means that it is not there. */
  readonly complete: boolean;
}

/** What an endpoint is found by, canonical, the container's own name first; empty: nothing yet. */
export function namesOf({ names }: Pick<Endpoint, "names">): string[] {
  return (names ?? []).map(canonicalName).filter(isName);
}

/** Why its own host says that it is in no answer, where the network heeds it. */
export function outOf(
  { out }: Pick<Endpoint, "out">,
  { unhealthyNames }: Pick<NetworkRecord, "unhealthyNames">,
): string | undefined {
  const ignored = unhealthyNames === "include" && out !== undefined && HEALTH_REASONS.includes(out);
  return ignored ? undefined : out;
}

/**
 * Who holds names on the network, by the rules that decide on its kernel entries too. `lost`: hosts
 * that this one does not reach. What did not change is the same object as the last time.
 */
export function holdersOf(
  tables: Tables,
  record: NetworkRecord,
  lost: ReadonlySet<NodeId>,
): Holder[] {
  return readNetwork(tables, record).holders.flatMap(({ node, endpoint }) => {
    const holder = holderOf(node, endpoint);
    if (holder.names.length === 0) return [];
    return [outFor(holder, lost.has(node) ? "unreachable" : outOf(endpoint, record))];
  });
}

/** Endpoints are never changed, only replaced. */
const holders = new WeakMap<Endpoint, Holder>();
const others = new WeakMap<Holder, Holder>();

function holderOf(node: NodeId, endpoint: Endpoint): Holder {
  let holder = holders.get(endpoint);
  if (holder === undefined) {
    const { id, out } = endpoint;
    holder = { endpoint: id, node, names: namesOf(endpoint), ips: claimedAddresses(endpoint), out };
    holders.set(endpoint, holder);
  }
  return holder;
}

/** The same holder as it looks from here. */
function outFor(holder: Holder, out: string | undefined): Holder {
  if (holder.out === out) return holder;
  let other = others.get(holder);
  if (other === undefined || other.out !== out) {
    other = { ...holder, out };
    others.set(holder, other);
  }
  return other;
}

/** What to tell so that who knows `before` knows `after`. */
export function changedHolders(
  before: ReadonlyMap<EndpointId, Holder>,
  after: readonly Holder[],
): { put: Holder[]; remove: EndpointId[] } {
  const put = after.filter((holder) => before.get(holder.endpoint) !== holder);
  const kept = new Set(after.map(({ endpoint }) => endpoint));
  return { put, remove: [...before.keys()].filter((endpoint) => !kept.has(endpoint)) };
}

/** Addresses of a name, or that it is known and none can be given. */
export interface Found {
  readonly ips: readonly Ip[];
}

interface NetworkNames {
  info: NamedNetwork;
  readonly holders: Map<EndpointId, Holder>;
  /** By canonical name, in the order they came. */
  readonly byName: Map<string, Set<Holder>>;
  readonly byIp: Map<Ip, Holder>;
  /** How often each question was answered: where the next answer begins. */
  readonly turns: Map<string, number>;
}

/**
 * The names of the networks on this host, for answering: changed by holder, asked by name. Scope is
 * always given: the networks of who asks.
 */
export class NameTable {
  readonly #networks = new Map<NetworkId, NetworkNames>();

  setNetwork(info: NamedNetwork): void {
    const held = this.#networks.get(info.network);
    if (held !== undefined) held.info = info;
    else
      this.#networks.set(info.network, {
        info,
        holders: new Map(),
        byName: new Map(),
        byIp: new Map(),
        turns: new Map(),
      });
  }

  forgetNetwork(network: NetworkId): void {
    this.#networks.delete(network);
  }

  /** A holder that is there is replaced. Of a network that was not set nothing is kept. */
  change(network: NetworkId, put: readonly Holder[], remove: readonly EndpointId[]): void {
    const names = this.#networks.get(network);
    if (names === undefined) return;
    for (const endpoint of remove) drop(names, endpoint);
    for (const holder of put) {
      drop(names, holder.endpoint);
      names.holders.set(holder.endpoint, holder);
      for (const name of holder.names) {
        const same = names.byName.get(name);
        if (same === undefined) names.byName.set(name, new Set([holder]));
        else same.add(holder);
      }
      for (const ip of holder.ips) names.byIp.set(ip, holder);
    }
  }

  /**
   * Undefined: no network of the scope has the name. As Docker does, one network answers: the first in
   * the order of their names that has a holder to give, else one that knows the name and has none.
   */
  find(scope: readonly NetworkId[], name: string, family: Family): Found | undefined {
    let known: Found | undefined;
    for (const names of this.#inOrder(scope)) {
      const holders = names.byName.get(name) ?? qualified(names, name);
      if (holders === undefined) continue;
      const up = [...holders].filter(({ out }) => out === undefined);
      if (up.length === 0) {
        known ??= { ips: [] };
        continue;
      }
      const ips = up.flatMap((holder) => holder.ips.filter((ip) => familyOf(ip) === family));
      return { ips: rotated(ips, turn(names, `${name} ${family}`)) };
    }
    return known;
  }

  /** `<container>.<network>`; undefined: nobody on a network of the scope has the address. */
  reverse(scope: readonly NetworkId[], ip: Ip): string | undefined {
    for (const { byIp, info } of this.#inOrder(scope)) {
      const [own] = byIp.get(ip)?.names ?? [];
      if (own !== undefined) return info.name === undefined ? own : `${own}.${info.name}`;
    }
    return undefined;
  }

  /** Every network of the scope is known in full: a name that is not found is not there. */
  complete(scope: readonly NetworkId[]): boolean {
    return scope.every((network) => this.#networks.get(network)?.info.complete === true);
  }

  #inOrder(scope: readonly NetworkId[]): NetworkNames[] {
    const found = scope.flatMap((network) => this.#networks.get(network) ?? []);
    return found.length < 2 ? found : found.sort(byName);
  }
}

function byName(a: NetworkNames, b: NetworkNames): number {
  const [left, right] = [a, b].map(({ info }) => info.name ?? info.network);
  return left === right ? 0 : left! < right! ? -1 : 1;
}

/** `<name>.<network>`. */
function qualified({ info, byName }: NetworkNames, name: string): Set<Holder> | undefined {
  if (info.name === undefined || !name.endsWith(`.${info.name}`)) return undefined;
  return byName.get(name.slice(0, -info.name.length - 1));
}

function drop(names: NetworkNames, endpoint: EndpointId): void {
  const held = names.holders.get(endpoint);
  if (held === undefined) return;
  names.holders.delete(endpoint);
  for (const ip of held.ips) if (names.byIp.get(ip) === held) names.byIp.delete(ip);
  for (const name of held.names) {
    const same = names.byName.get(name);
    same?.delete(held);
    if (same?.size !== 0) continue;
    names.byName.delete(name);
    for (const family of [4, 6]) names.turns.delete(`${name} ${family}`);
  }
}

function turn({ turns }: NetworkNames, question: string): number {
  const next = turns.get(question) ?? 0;
  turns.set(question, (next + 1) % Number.MAX_SAFE_INTEGER);
  return next;
}

function rotated<T>(list: readonly T[], by: number): T[] {
  if (list.length < 2) return [...list];
  const start = by % list.length;
  return [...list.slice(start), ...list.slice(0, start)];
}
