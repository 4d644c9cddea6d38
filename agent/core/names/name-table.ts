import type { EndpointId, NetworkId } from "../../shared/ids.ts";
import type { Family, Ip } from "../../shared/ip.ts";
import type { Holder, NamedNetwork } from "./names.ts";

/** Addresses of a name, or that it is known and none can be given. */
export interface Found {
  readonly ips: readonly Ip[];
}

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
        if (same !== undefined) same.holders.add(holder);
        else names.byName.set(name, { holders: new Set([holder]), turns: { 4: 0, 6: 0 } });
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
      const sharers = sharersOf(names, name);
      if (sharers === undefined) continue;
      const ips: Ip[] = [];
      let up = false;
      for (const holder of sharers.holders) {
        if (holder.out !== undefined) continue;
        up = true;
        for (const ip of holder.ips) if (hasFamily(ip, family)) ips.push(ip);
      }
      if (up) return { ips: rotated(ips, turn(sharers, family)) };
      known ??= { ips: [] };
    }
    return known;
  }

  /** A network of the scope has the name, whoever may answer for it. */
  knows(scope: readonly NetworkId[], name: string): boolean {
    return this.#inOrder(scope).some((names) => sharersOf(names, name) !== undefined);
  }

  /** `<container>.<network>`; undefined: nobody on a network of the scope has the address. */
  reverse(scope: readonly NetworkId[], ip: Ip): string | undefined {
    for (const { byIp, info } of this.#inOrder(scope)) {
      const [own] = byIp.get(ip)?.names ?? [];
      if (own !== undefined) return info.name === undefined ? own : `${own}.${info.name}`;
    }
    return undefined;
  }

  /**
   * A name that is not known may be one of a network of the scope that is not known in full yet: it looks
   * like one of ours. Other names need not wait for that.
   */
  mayCome(scope: readonly NetworkId[], name: string): boolean {
    return scope.some((network) => {
      const info = this.#networks.get(network)?.info;
      if (info?.complete === true) return false;
      return !name.includes(".") || (info?.name !== undefined && name.endsWith(`.${info.name}`));
    });
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

/** By the name itself, or by `<name>.<network>`. */
function sharersOf({ info, byName }: NetworkNames, name: string): Sharers | undefined {
  const own = byName.get(name);
  if (own !== undefined || info.name === undefined || !name.endsWith(`.${info.name}`)) return own;
  return byName.get(name.slice(0, -info.name.length - 1));
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
