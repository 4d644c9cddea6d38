import { z } from "zod";
import { BOUNDS } from "../../shared/bounds.ts";
import { NetworkId } from "../../shared/ids.ts";
import { Cidr } from "../../shared/ip.ts";
import type { Disk } from "../store/disk.ts";

const AddressPool = z.object({
  id: z.string(),
  subnet: Cidr,
  range: Cidr.optional(),
  /** Orders the unbound pools: CreateNetwork names a subnet, not a pool. */
  seq: z.number().int(),
  network: NetworkId.optional(),
});
export type AddressPool = z.infer<typeof AddressPool>;

/** The address pools that this engine asked for, on disk before it is answered. */
export class AddressPools {
  readonly #disk: Disk;
  readonly #pools = new Map<string, AddressPool>();

  constructor(disk: Disk) {
    this.#disk = disk;
    for (const pool of disk.list("pool/", AddressPool)) this.#pools.set(pool.id, pool);
  }

  get(id: string): AddressPool | undefined {
    return this.#pools.get(id);
  }

  all(): readonly AddressPool[] {
    return [...this.#pools.values()];
  }

  /** Docker releases what it asked for, unless it dies: of too many without a network the oldest goes. */
  add(pool: Omit<AddressPool, "seq">): void {
    const held = this.all().toSorted((a, b) => a.seq - b.seq);
    const unbound = held.filter(({ network }) => network === undefined);
    const [oldest] = unbound;
    if (oldest !== undefined && unbound.length >= BOUNDS.unboundPools) this.remove(oldest.id);
    this.#save({ ...pool, seq: (held.at(-1)?.seq ?? 0) + 1 });
  }

  /** The oldest pool of that subnet without a network, those apart that one under way will have (`taken`). */
  unbound(subnet: Cidr, taken: ReadonlySet<string> = new Set()): AddressPool | undefined {
    return this.all()
      .filter((pool) => pool.network === undefined && pool.subnet === subnet)
      .filter(({ id }) => !taken.has(id))
      .toSorted((a, b) => a.seq - b.seq)[0];
  }

  bind(id: string, network: NetworkId): void {
    const pool = this.#pools.get(id);
    if (pool !== undefined) this.#save({ ...pool, network });
  }

  remove(id: string): void {
    if (this.#pools.delete(id)) this.#disk.oweDelete(`pool/${id}`);
  }

  #save(pool: AddressPool): void {
    this.#disk.put(`pool/${pool.id}`, pool);
    this.#pools.set(pool.id, pool);
  }
}
