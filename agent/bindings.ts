import { z } from "zod";
import { BOUNDS } from "../shared/bounds.ts";
import { decodeCbor, encodeCbor } from "../shared/codec.ts";
import { DockerNetworkId, NetworkId } from "../shared/ids.ts";
import { Cidr, Ip } from "../shared/ip.ts";
import type { AgentStore } from "./store/port.ts";

/**
 * What this engine calls our things: its network ids, the address pools it asked for, the addresses
 * it was given. Docker says each of them once, so all of it is on disk before it is answered.
 */
const Pool = z.object({
  id: z.string(),
  subnet: Cidr,
  range: Cidr.optional(),
  /** Orders the unbound pools: CreateNetwork names a subnet, not a pool. */
  seq: z.number().int(),
  network: NetworkId.optional(),
});
export type Pool = z.infer<typeof Pool>;

const Removed = z.object({ network: NetworkId });
const Address = z.object({ network: NetworkId, ip: Ip });
const Returning = z.object({ network: NetworkId, block: Cidr });
const Binding = z.object({ docker: DockerNetworkId, network: NetworkId });

const MAX_BYTES = 4096;

export class Bindings {
  readonly #store: AgentStore;
  readonly #networks = new Map<DockerNetworkId, NetworkId>();
  readonly #pools = new Map<string, Pool>();
  readonly #used = new Map<NetworkId, Set<Ip>>();
  readonly #removed = new Set<NetworkId>();
  readonly #removedChanged: () => void;
  readonly #returning = new Map<NetworkId, Set<Cidr>>();

  constructor(store: AgentStore, removedChanged: () => void = () => {}) {
    this.#store = store;
    this.#removedChanged = removedChanged;
    for (const { docker, network } of this.#list("binding/", Binding))
      this.#networks.set(docker, network);
    for (const pool of this.#list("pool/", Pool)) this.#pools.set(pool.id, pool);
    for (const { network, ip } of this.#list("address/", Address)) this.#usedOn(network).add(ip);
    for (const { network } of this.#list("removed/", Removed)) this.#removed.add(network);
    for (const { network, block } of this.#list("returning/", Returning))
      this.#returningOn(network).add(block);
  }

  network(docker: DockerNetworkId): NetworkId | undefined {
    return this.#networks.get(docker);
  }

  /** Every network this engine has, by its own id. */
  networks(): ReadonlyMap<DockerNetworkId, NetworkId> {
    return this.#networks;
  }

  bind(docker: DockerNetworkId, network: NetworkId): void {
    this.#networks.set(docker, network);
    this.#put(`binding/${docker}`, { docker, network });
  }

  unbind(docker: DockerNetworkId): void {
    this.#networks.delete(docker);
    this.#delete(`binding/${docker}`);
  }

  /** Networks whose view was removed on this engine, and nothing was decided yet. */
  removed(): ReadonlySet<NetworkId> {
    return this.#removed;
  }

  markRemoved(network: NetworkId): void {
    this.#removed.add(network);
    this.#put(`removed/${network}`, { network });
    this.#removedChanged();
  }

  clearRemoved(network: NetworkId): void {
    this.#removed.delete(network);
    this.#delete(`removed/${network}`);
    this.#removedChanged();
  }

  pool(id: string): Pool | undefined {
    return this.#pools.get(id);
  }

  pools(): readonly Pool[] {
    return [...this.#pools.values()];
  }

  /** Docker gives back what it asked for, unless it dies: the oldest that no network took goes. */
  addPool(pool: Omit<Pool, "seq">): void {
    const held = [...this.#pools.values()].toSorted((a, b) => a.seq - b.seq);
    const unbound = held.filter(({ network }) => network === undefined);
    const [oldest] = unbound;
    if (oldest !== undefined && unbound.length >= BOUNDS.unboundPools) this.removePool(oldest.id);
    this.#savePool({ ...pool, seq: (held.at(-1)?.seq ?? 0) + 1 });
  }

  /** The oldest pool of that subnet that no network has yet, nor is about to (`taken`). */
  unboundPool(subnet: Cidr, taken: ReadonlySet<string> = new Set()): Pool | undefined {
    return [...this.#pools.values()]
      .filter((pool) => pool.network === undefined && pool.subnet === subnet)
      .filter(({ id }) => !taken.has(id))
      .toSorted((a, b) => a.seq - b.seq)[0];
  }

  bindPool(id: string, network: NetworkId): void {
    const pool = this.#pools.get(id);
    if (pool !== undefined) this.#savePool({ ...pool, network });
  }

  removePool(id: string): void {
    if (this.#pools.delete(id)) this.#delete(`pool/${id}`);
  }

  used(network: NetworkId): ReadonlySet<Ip> {
    return this.#usedOn(network);
  }

  reserve(network: NetworkId, ip: Ip): void {
    this.#usedOn(network).add(ip);
    this.#put(`address/${network}/${ip}`, { network, ip });
  }

  release(network: NetworkId, ip: Ip): void {
    this.#used.get(network)?.delete(ip);
    this.#delete(`address/${network}/${ip}`);
  }

  /** Blocks that were given back, or may have been: the answer was lost, or has not come yet. */
  returning(network: NetworkId): ReadonlySet<Cidr> {
    return this.#returningOn(network);
  }

  allReturning(): { network: NetworkId; block: Cidr }[] {
    return [...this.#returning].flatMap(([network, blocks]) =>
      [...blocks].map((block) => ({ network, block })),
    );
  }

  /** Before the controller is asked to take it: from then on it may be another host's. */
  markReturning(network: NetworkId, block: Cidr): void {
    this.#returningOn(network).add(block);
    this.#put(`returning/${network}/${block}`, { network, block });
  }

  /** It is known whose it is. */
  clearReturning(network: NetworkId, block: Cidr): void {
    if (this.#returning.get(network)?.delete(block) === true)
      this.#delete(`returning/${network}/${block}`);
  }

  #returningOn(network: NetworkId): Set<Cidr> {
    let returning = this.#returning.get(network);
    if (returning === undefined) this.#returning.set(network, (returning = new Set()));
    return returning;
  }

  #usedOn(network: NetworkId): Set<Ip> {
    let used = this.#used.get(network);
    if (used === undefined) this.#used.set(network, (used = new Set()));
    return used;
  }

  #savePool(pool: Pool): void {
    this.#pools.set(pool.id, pool);
    this.#put(`pool/${pool.id}`, pool);
  }

  #list<T>(prefix: string, schema: z.ZodType<T>): T[] {
    return this.#store.list(prefix).map(({ value }) => schema.parse(decodeCbor(value, MAX_BYTES)));
  }

  #put(key: string, value: unknown): void {
    this.#store.write([{ kind: "put", key, value: encodeCbor(value) }]);
  }

  #delete(key: string): void {
    this.#store.write([{ kind: "delete", key }]);
  }
}
