import { isDeepStrictEqual } from "node:util";
import type { SecurityClass, VipRecord } from "../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Clock, Timers } from "../../shared/ports.ts";
import type { Balancing } from "../balancing/port.ts";
import { balance, type Balanced, NOTHING_BALANCED } from "../core/balancing/services.ts";
import { vipsOn } from "../core/balancing/vips-on.ts";
import { changedGroups } from "../core/data-plane/changed-part.ts";
import { type NamedHost, namedHosts } from "../core/names/names.ts";
import { sameNaming } from "../core/names/told-holders.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import type { Replication } from "../replication/replication.ts";
import { sandboxName, type JoinedSandboxes } from "./joined-sandboxes.ts";
import type { ServedVips } from "./served-vips.ts";
import type { SandboxId } from "./server/port.ts";

export interface ServiceFeedModules {
  readonly balancing: Balancing;
  readonly sandboxes: JoinedSandboxes;
  readonly localNetworks: Pick<LocalNetworks, "find">;
  readonly replication: Pick<Replication, "tables">;
  /** Hosts that are not reached on networks of the class. */
  readonly lost: (encryption: SecurityClass) => ReadonlySet<NodeId>;
  readonly clock: Pick<Clock, "nowMs">;
  readonly timers: Timers;
}

interface Told {
  /** What `balanced` was read of. */
  vips: readonly VipRecord[];
  hosts: readonly NamedHost[];
  balanced: Balanced;
  stopForgetting: (() => void) | undefined;
}

/**
 * Tells who writes the tables of virtual addresses which containers dial them, by Docker's Join and Leave, and who is behind
 * them, by the tables of the networks that these are on.
 */
export class ServiceFeed implements ServedVips {
  readonly #modules: ServiceFeedModules;
  readonly #told = new Map<NetworkId, Told>();
  readonly #dirty = new Set<NetworkId>();
  readonly #clients = new Map<string, readonly NetworkId[]>();
  /** Tables that are being taken away. */
  readonly #ending = new Set<Promise<void>>();
  #stopTelling: (() => void) | undefined;
  #started = false;

  constructor(modules: ServiceFeedModules) {
    this.#modules = modules;
  }

  /** With the tables from disk: what was written before stays while nothing else is known. */
  start(): void {
    this.#started = true;
    this.changed();
    this.#tell();
    for (const { path } of this.#modules.sandboxes.all()) this.sandboxChanged(path);
  }

  /** Tables stay, and go on. */
  async stop(): Promise<void> {
    this.#started = false;
    this.#stopTelling?.();
    for (const { stopForgetting } of this.#told.values()) stopForgetting?.();
    await this.#modules.balancing.stop();
  }

  /** What containers that left had is gone. */
  async withdrawn(): Promise<void> {
    await Promise.all(this.#ending);
  }

  of(sandbox: SandboxId): ReadonlySet<Ip> {
    const served = this.#modules.balancing.served(sandbox);
    const ips = served.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]);
    return new Set(ips.filter((ip) => ip !== undefined));
  }

  /** The virtual addresses that the rules of each container here should have. */
  wanted(): Map<string, readonly Ip[]> {
    const { tables } = this.#modules.replication;
    return new Map(
      [...this.#clients].map(([id, networks]) => [
        id,
        networks.flatMap((network) => vipsOn(tables.state, network).flatMap(({ ips }) => ips)),
      ]),
    );
  }

  /** An endpoint came into the sandbox of that path, or left it. */
  sandboxChanged(path: string): void {
    if (!this.#started) return;
    const { balancing, sandboxes } = this.#modules;
    const id = sandboxName(path);
    const inside = sandboxes.all().filter((joined) => sandboxName(joined.path) === id);
    const networks = [...new Set(inside.map(({ network }) => network))].toSorted();
    const before = this.#clients.get(id);
    if (networks.length === 0) {
      if (!this.#clients.delete(id)) return;
      const ending = balancing.withdraw(id).finally(() => this.#ending.delete(ending));
      this.#ending.add(ending);
    } else if (!isDeepStrictEqual(before, networks)) {
      this.#clients.set(id, networks);
      balancing.serve({ id, path, networks, name: id });
    }
    for (const network of [...networks, ...(before ?? [])]) this.dirty(network);
  }

  /** What follows in the same turn is told with it. */
  dirty(network: NetworkId): void {
    if (!this.#started) return;
    this.#dirty.add(network);
    this.#stopTelling ??= this.#modules.timers.after(0, () => this.#tell());
  }

  /** Records, hosts or whom we reach changed: any network here may look different. */
  changed(): void {
    const asking = this.#modules.sandboxes.all().map(({ network }) => network);
    for (const network of new Set([...this.#told.keys(), ...asking])) this.dirty(network);
  }

  #tell(): void {
    this.#stopTelling?.();
    this.#stopTelling = undefined;
    const asking = new Set(this.#modules.sandboxes.all().map(({ network }) => network));
    for (const network of this.#dirty) this.#tellOf(network, asking.has(network));
    this.#dirty.clear();
  }

  #tellOf(network: NetworkId, isAsking: boolean): void {
    const { balancing, localNetworks, replication, lost, clock, timers } = this.#modules;
    const { tables } = replication;
    const record = isAsking ? localNetworks.find(network) : undefined;
    const vips = record === undefined ? [] : vipsOn(tables.state, network);
    const told = this.#told.get(network);
    if (record === undefined || vips.length === 0) {
      if (told === undefined) return;
      told.stopForgetting?.();
      this.#told.delete(network);
      balancing.services(network, []);
      return;
    }
    const held = told ?? {
      vips: [],
      hosts: [],
      balanced: NOTHING_BALANCED,
      stopForgetting: undefined,
    };
    const hosts = namedHosts(tables, record, lost(record.encryption));
    const nowMs = clock.nowMs();
    const { before, after } = changedGroups(held.hosts, hosts, sameNaming);
    const isOver = (held.balanced.nextMs ?? Infinity) <= nowMs;
    // A word of some other host, or another network's.
    if (held.vips === vips && before.length + after.length === 0 && !isOver) return;
    held.vips = vips;
    held.hosts = hosts;
    const balanced = balance(held.balanced, { vips, hosts }, nowMs);
    const isSame = isDeepStrictEqual(held.balanced.services, balanced.services);
    held.balanced = balanced;
    held.stopForgetting?.();
    const { nextMs } = balanced;
    held.stopForgetting =
      nextMs === undefined
        ? undefined
        : timers.after(Math.max(1, Math.ceil(nextMs - nowMs)), () => this.dirty(network));
    this.#told.set(network, held);
    if (!isSame) balancing.services(network, balanced.services);
  }
}
