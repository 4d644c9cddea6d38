import { z } from "zod";
import { BOUNDS } from "../shared/bounds.ts";
import { DockerNetworkId, NetworkId } from "../shared/ids.ts";
import { Cidr, Ip } from "../shared/ip.ts";
import type { Disk } from "./store/disk.ts";

/**
 * What this engine calls our things: its network ids, the address pools it asked for, the addresses
 * it was given. Docker says each of them once, so all of it is on disk before it is answered; what ends
 * has ended, whatever the disk does.
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

export class Bindings {
  readonly #disk: Disk;
  readonly #networks = new Map<DockerNetworkId, NetworkId>();
  readonly #pools = new Map<string, Pool>();
  readonly #used = new Map<NetworkId, Set<Ip>>();
  readonly #removed = new Set<NetworkId>();
  readonly #removedChanged: () => void;
  readonly #returning = new Map<NetworkId, Set<Cidr>>();

  constructor(disk: Disk, removedChanged: () => void = () => {}) {
    this.#disk = disk;
    this.#removedChanged = removedChanged;
    for (const { docker, network } of disk.list("binding/", Binding))
      this.#networks.set(docker, network);
    for (const pool of disk.list("pool/", Pool)) this.#pools.set(pool.id, pool);
    for (const { network, ip } of disk.list("address/", Address)) this.#usedOn(network).add(ip);
    for (const { network } of disk.list("removed/", Removed)) this.#removed.add(network);
    for (const { network, block } of disk.list("returning/", Returning))
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
    this.#disk.put(`binding/${docker}`, { docker, network });
    this.#networks.set(docker, network);
  }

  unbind(docker: DockerNetworkId): void {
    this.#networks.delete(docker);
    this.#disk.oweDelete(`binding/${docker}`);
  }

  /** Networks whose view was removed on this engine, and nothing was decided yet. */
  removed(): ReadonlySet<NetworkId> {
    return this.#removed;
  }

  markRemoved(network: NetworkId): void {
    this.#disk.owePut(`removed/${network}`, { network });
    this.#removed.add(network);
    this.#removedChanged();
  }

  clearRemoved(network: NetworkId): void {
    this.#removed.delete(network);
    this.#disk.oweDelete(`removed/${network}`);
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
    if (this.#pools.delete(id)) this.#disk.oweDelete(`pool/${id}`);
  }

  used(network: NetworkId): ReadonlySet<Ip> {
    return this.#usedOn(network);
  }

  allUsed(): ReadonlyMap<NetworkId, ReadonlySet<Ip>> {
    return this.#used;
  }

  reserve(network: NetworkId, ip: Ip): void {
    this.#disk.put(addressKey(network, ip), { network, ip });
    this.#usedOn(network).add(ip);
  }

  /** It is in use, whatever the disk takes. */
  adopt(network: NetworkId, ip: Ip): void {
    this.#disk.owePut(addressKey(network, ip), { network, ip });
    this.#usedOn(network).add(ip);
  }

  release(network: NetworkId, ip: Ip): void {
    this.#used.get(network)?.delete(ip);
    this.#disk.oweDelete(addressKey(network, ip));
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
    this.#disk.put(`returning/${network}/${block}`, { network, block });
    this.#returningOn(network).add(block);
  }

  /** It is known whose it is. */
  clearReturning(network: NetworkId, block: Cidr): void {
    if (this.#returning.get(network)?.delete(block) === true)
      this.#disk.oweDelete(`returning/${network}/${block}`);
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
    this.#disk.put(`pool/${pool.id}`, pool);
    this.#pools.set(pool.id, pool);
  }
}

function addressKey(network: NetworkId, ip: Ip): string {
  return `address/${network}/${ip}`;
}
