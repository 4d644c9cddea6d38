import type { BlockRecord } from "../../../shared/cluster-state.ts";
import {
  ADDRESS_BITS,
  type Family,
  familyOf,
  type Ip,
  ipToNumber,
  prefixLength,
  rangeOf,
} from "../../../shared/ip.ts";

/** Blocks of one family and prefix length, by the bits that all addresses of a block share. */
interface SameLength {
  readonly family: Family;
  readonly length: number;
  /** Bits of an address that are none of the prefix. */
  readonly hostBits: bigint;
  readonly byPrefix: Map<bigint, BlockRecord>;
}

/**
 * Blocks by the addresses in them, the most specific first: a look-up costs as much as there are prefix lengths in
 * use, however many blocks there are.
 */
export class BlockIndex {
  /** The longest prefixes first. */
  readonly #lengths: readonly SameLength[];

  constructor(blocks: Iterable<BlockRecord>) {
    const lengths = new Map<string, SameLength>();
    for (const record of blocks) {
      const { first, family } = rangeOf(record.block);
      const length = prefixLength(record.block);
      const key = `${family}/${length}`;
      let same = lengths.get(key);
      if (same === undefined) {
        const hostBits = BigInt(ADDRESS_BITS[family] - length);
        lengths.set(key, (same = { family, length, hostBits, byPrefix: new Map() }));
      }
      const prefix = first >> same.hostBits;
      // The controller gives none twice; were it so, the first has it on every host.
      if (!same.byPrefix.has(prefix)) same.byPrefix.set(prefix, record);
    }
    this.#lengths = [...lengths.values()].toSorted((a, b) => b.length - a.length);
  }

  /** The most specific block around the address: its host may give it out. */
  around(ip: Ip): BlockRecord | undefined {
    const family = familyOf(ip);
    const value = ipToNumber(ip);
    for (const { family: its, hostBits, byPrefix } of this.#lengths) {
      const found = its === family ? byPrefix.get(value >> hostBits) : undefined;
      if (found !== undefined) return found;
    }
    return undefined;
  }
}
