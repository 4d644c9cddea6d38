import type { EndpointId, NetworkId } from "../../../shared/ids.ts";
import type { Family, Ip } from "../../../shared/ip.ts";
import type { Holder, NamedNetwork, NamedVip } from "./names.ts";
import { askedPort, MEMBERS, type ServiceRecord, servicesIn } from "./service-names.ts";

/** Addresses of a name, or that it is known and none can be given. */
export interface Found {
  readonly ips: readonly Ip[];
}

/** A network of who asks, and what it is there. */
export interface Attached {
  readonly network: NetworkId;
  /** Who asks: it finds itself by all its names, whatever its state. */
  readonly endpoint: EndpointId;
  /** `--link`: what it alone calls others there, by canonical alias. */
  readonly links?: ReadonlyMap<string, string> | undefined;
  /** Virtual addresses of the network that its own rules translate: no others may be its answer. */
  readonly vips?: ReadonlySet<Ip> | undefined;
}

/** Whose names a question sees: those of the networks of who asks, and nobody else's. */
export type Scope = readonly Attached[];

/** Who holds one name of one network. */
interface Sharers {
  /** In the order they came. */
  readonly holders: Set<Holder>;
  /** How often it was answered, by family: where the next answer begins. */
  readonly turns: Record<Family, number>;
}

interface NetworkNames {
  info: NamedNetwork;
  readonly holders: Map<EndpointId, Holder>;
  /** By canonical name. */
  readonly byName: Map<string, Sharers>;
  readonly byIp: Map<Ip, Holder>;
  /** By canonical name. */
  vips: ReadonlyMap<string, NamedVip>;
  vipNames: ReadonlyMap<Ip, string>;
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
        vips: new Map(),
        vipNames: new Map(),
      });
  }

  forgetNetwork(network: NetworkId): void {
    this.#networks.delete(network);
  }

  /** All that the network has. Of a network that was not set nothing is kept. */
  setVips(network: NetworkId, vips: readonly NamedVip[]): void {
    const names = this.#networks.get(network);
    if (names === undefined) return;
    names.vips = new Map(vips.map((vip) => [vip.name, vip]));
    names.vipNames = new Map(vips.flatMap(({ name, ips }) => ips.map((ip) => [ip, name])));
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
        if (same !== undefined) same.holders.add(holder);
        else names.byName.set(name, { holders: new Set([holder]), turns: { 4: 0, 6: 0 } });
      }
      for (const ip of holder.ips) names.byIp.set(ip, holder);
    }
  }

  /**
   * Undefined: no network of the scope has the name. The first in the order of their names that has it
   * decides, whoever may answer there: a fault leads to nobody, never to the service of the same name on
   * another network. A link of who asks comes before the names of all its networks. A name with a virtual address that who
   * asks can use is answered with that; `tasks.<name>` with its holders in any case.
   *
   * @param family undefined: whether the name is known, and no addresses.
   * @param patient "unknown" while a network that would decide is not known in full, and may have the name.
   */
  find(scope: Scope, name: string, family: Family | undefined): Found | undefined;
  find(
    scope: Scope,
    name: string,
    family: Family | undefined,
    patient: boolean,
  ): Found | "unknown" | undefined;
  find(
    scope: Scope,
    name: string,
    family: Family | undefined,
    patient = false,
  ): Found | "unknown" | undefined {
    const places = this.#inOrder(scope);
    let decided = decide(places, name, patient);
    const isOfMembers = decided === undefined && name.startsWith(MEMBERS);
    if (isOfMembers) decided = decide(places, name.slice(MEMBERS.length), patient);
    if (decided === undefined || decided === "unknown") return decided;
    const { sharers, own } = decided;
    if (family === undefined) return NOBODY;
    const virtual = isOfMembers ? [] : decided.vip.filter((ip) => hasFamily(ip, family));
    if (virtual.length > 0) return { ips: virtual };
    if (sharers === undefined) return NOBODY;
    const ips: Ip[] = [];
    for (const holder of sharers.holders) {
      if (holder.out !== undefined && holder.endpoint !== own) continue;
      for (const ip of holder.ips) if (hasFamily(ip, family)) ips.push(ip);
    }
    return ips.length === 0 ? NOBODY : { ips: rotated(ips, turn(sharers, family)) };
  }

  /**
   * `_<port>._tcp.<name>` (RFC 2782): the holders that publish or expose the port, each by a name that leads to it alone.
   * Undefined: it has not that form, or no network of the scope has the name.
   */
  services(
    scope: Scope,
    name: string,
    patient: boolean,
  ): readonly ServiceRecord[] | "unknown" | undefined {
    const asked = askedPort(name);
    if (asked === undefined) return undefined;
    const decided = decide(this.#inOrder(scope), asked.name, patient);
    if (decided === undefined || decided === "unknown") return decided;
    return servicesIn(decided.sharers?.holders ?? [], asked, decided.network);
  }

  /** `<container>.<network>`; undefined: nobody on a network of the scope has the address. */
  reverse(scope: Scope, ip: Ip): string | undefined {
    for (const { names } of this.#inOrder(scope)) {
      const own = names?.byIp.get(ip)?.names[0] ?? names?.vipNames.get(ip);
      const network = names?.info.name;
      if (own !== undefined) return network === undefined ? own : `${own}.${network}`;
    }
    return undefined;
  }

  /** Networks that nothing is known of yet come first: each may be the one that decides. */
  #inOrder(scope: Scope): Place[] {
    const places = scope.map((attached) => ({
      attached,
      names: this.#networks.get(attached.network),
    }));
    return places.length < 2 ? places : places.sort(byName);
  }
}

/** A network of who asks; `names` is undefined before anything was told of it. */
interface Place {
  readonly attached: Attached;
  readonly names: NetworkNames | undefined;
}

/** Who holds the name, on the network that decides; undefined: nobody there. */
interface Decided {
  readonly sharers: Sharers | undefined;
  /** Who asks, there. */
  readonly own: EndpointId;
  /** Its virtual addresses that who asks can use. */
  readonly vip: readonly Ip[];
  /** The network's name. */
  readonly network: string | undefined;
}

const NOBODY: Found = { ips: [] };

function decide(
  inOrder: readonly Place[],
  name: string,
  patient: boolean,
): Decided | "unknown" | undefined {
  for (const { attached, names } of inOrder) {
    const target = attached.links && linked(attached.links, name, names?.info.name);
    if (target === undefined) continue;
    const linkedTo = names && held(attached, names, target);
    if (linkedTo !== undefined) return linkedTo;
    if (patient && names?.info.complete !== true) return "unknown";
    return { sharers: undefined, own: attached.endpoint, vip: [], network: names?.info.name };
  }
  for (const { attached, names } of inOrder) {
    const found = names && heldOn(attached, names, name);
    if (found !== undefined) return found;
    if (patient && mayCome(names, name)) return "unknown";
  }
  return undefined;
}

/** Undefined: nobody has the name, and it has no virtual address that who asks can use. */
function held(
  { endpoint, vips }: Attached,
  { info, byName, vips: known }: NetworkNames,
  name: string,
): Decided | undefined {
  const sharers = byName.get(name);
  const vip = (known.get(name)?.ips ?? []).filter((ip) => vips?.has(ip) === true);
  if (sharers === undefined && vip.length === 0) return undefined;
  return { sharers, own: endpoint, vip, network: info.name };
}

/** Docker's resolver takes a link for `<alias>.<network>` too. */
function linked(
  links: ReadonlyMap<string, string>,
  name: string,
  network: string | undefined,
): string | undefined {
  const target = links.get(name);
  if (target !== undefined || network === undefined || !name.endsWith(`.${network}`)) return target;
  return links.get(name.slice(0, -network.length - 1));
}

/**
 * A name that is not known may be one of a network that is not known in full yet: it looks like one of
 * ours. Other names need not wait for that.
 */
function mayCome(names: NetworkNames | undefined, name: string): boolean {
  const info = names?.info;
  if (info?.complete === true) return false;
  return !name.includes(".") || (info?.name !== undefined && name.endsWith(`.${info.name}`));
}

function byName(a: Place, b: Place): number {
  const [left, right] = [a, b].map(({ names }) => names && (names.info.name ?? names.info.network));
  return left === right ? 0 : (left ?? "") < (right ?? "") ? -1 : 1;
}

/** By the name itself, or by `<name>.<network>`. */
function heldOn(attached: Attached, names: NetworkNames, name: string): Decided | undefined {
  const own = held(attached, names, name);
  const network = names.info.name;
  if (own !== undefined || network === undefined || !name.endsWith(`.${network}`)) return own;
  return held(attached, names, name.slice(0, -network.length - 1));
}

function drop(names: NetworkNames, endpoint: EndpointId): void {
  const held = names.holders.get(endpoint);
  if (held === undefined) return;
  names.holders.delete(endpoint);
  for (const ip of held.ips) if (names.byIp.get(ip) === held) names.byIp.delete(ip);
  for (const name of held.names) {
    const same = names.byName.get(name);
    same?.holders.delete(held);
    if (same?.holders.size === 0) names.byName.delete(name);
  }
}

/** As `familyOf`; this file is for a thread that should load no parser of addresses. */
function hasFamily(ip: Ip, family: Family): boolean {
  return ip.includes(":") === (family === 6);
}

function turn({ turns }: Sharers, family: Family): number {
  const next = turns[family];
  turns[family] = (next + 1) % Number.MAX_SAFE_INTEGER;
  return next;
}

function rotated<T>(list: T[], by: number): T[] {
  if (list.length < 2) return list;
  const start = by % list.length;
  return [...list.slice(start), ...list.slice(0, start)];
}
