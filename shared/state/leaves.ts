import { equalBytes } from "../codec.ts";
import { OverlayError } from "../errors.ts";
import type { Hasher } from "../ports.ts";

/** SHA-256 over what is below: an object's bytes, or the root of leaves of its own. 32 bytes. */
export type Leaf = Uint8Array;

/** Of which a change touches one; two who differ in one key compare 8 KB and then one bucket. */
export const BUCKETS = 256;

/** What is hashed says what it is, so that none can be shown as another (RFC 6962, section 2.1). */
const OF_OBJECT = Uint8Array.of(0);
const OF_BUCKET = Uint8Array.of(1);
const OF_ROOT = Uint8Array.of(2);

interface Bucket {
  readonly leaves: ReadonlyMap<string, Leaf>;
  readonly hash: Uint8Array;
}

export function leafOf(bytes: Uint8Array, hasher: Hasher): Leaf {
  return hasher.sha256(OF_OBJECT, bytes);
}

/**
 * A leaf for each key, in buckets by the key's hash, under one root: equal for equal keys and leaves, however they came
 * to be. A value: a change makes another and leaves this one as it is, so what is new can be compared with a
 * signed root before anything of it shows. A change hashes one bucket and the root.
 */
export class Leaves {
  readonly size: number;
  readonly #hasher: Hasher;
  readonly #buckets: readonly Bucket[];
  #root: Uint8Array | undefined;

  private constructor(hasher: Hasher, buckets: readonly Bucket[]) {
    this.#hasher = hasher;
    this.#buckets = buckets;
    this.size = buckets.reduce((sum, { leaves }) => sum + leaves.size, 0);
  }

  static none(hasher: Hasher): Leaves {
    const empty = bucketOf(new Map(), hasher);
    return new Leaves(hasher, Array<Bucket>(BUCKETS).fill(empty));
  }

  get(key: string): Leaf | undefined {
    return this.#buckets[this.#index(key)]?.leaves.get(key);
  }

  *entries(): IterableIterator<[string, Leaf]> {
    for (const { leaves } of this.#buckets) yield* leaves;
  }

  /** With these leaves in place of those of before; undefined: the key is gone. */
  with(changes: Iterable<readonly [string, Leaf | undefined]>): Leaves {
    const changed = new Map<number, Map<string, Leaf>>();
    for (const [key, leaf] of changes) {
      const index = this.#index(key);
      const leaves = changed.get(index) ?? new Map(this.#buckets[index]?.leaves);
      changed.set(index, leaves);
      if (leaf === undefined) leaves.delete(key);
      else leaves.set(key, leaf);
    }
    if (changed.size === 0) return this;
    const buckets = this.#buckets.slice();
    for (const [index, leaves] of changed) buckets[index] = bucketOf(leaves, this.#hasher);
    return new Leaves(this.#hasher, buckets);
  }

  root(): Uint8Array {
    this.#root ??= rootOf(this.bucketHashes(), this.#hasher);
    return this.#root;
  }

  bucketHashes(): Uint8Array[] {
    return this.#buckets.map(({ hash }) => hash);
  }

  bucket(index: number): ReadonlyMap<string, Leaf> {
    return this.#buckets[index]?.leaves ?? new Map<string, Leaf>();
  }

  #index(key: string): number {
    return this.#hasher.sha256(ascii(key))[0] ?? 0;
  }
}

/** The root that these buckets have: what a peer says of its buckets is held against the signed one. */
export function rootOf(bucketHashes: readonly Uint8Array[], hasher: Hasher): Uint8Array {
  return hasher.sha256(OF_ROOT, ...bucketHashes);
}

/** The buckets in which two differ. */
export function differing(ours: readonly Uint8Array[], theirs: readonly Uint8Array[]): number[] {
  return ours.flatMap((hash, index) => {
    const other = theirs[index];
    return other !== undefined && equalBytes(hash, other) ? [] : [index];
  });
}

/** Of the leaves of one bucket; whether they belong there follows from the root alone. */
export function bucketHash(leaves: ReadonlyMap<string, Leaf>, hasher: Hasher): Uint8Array {
  const keys = [...leaves.keys()].toSorted();
  const parts = keys.flatMap((key) => [Uint8Array.of(key.length), ascii(key), leaves.get(key)!]);
  return hasher.sha256(OF_BUCKET, ...parts);
}

function bucketOf(leaves: ReadonlyMap<string, Leaf>, hasher: Hasher): Bucket {
  return { leaves, hash: bucketHash(leaves, hasher) };
}

const encoder = new TextEncoder();

/** @throws INVALID: no key of ours, and its length would not fit its byte. */
function ascii(key: string): Uint8Array {
  const bytes = encoder.encode(key);
  if (bytes.length !== key.length || bytes.length > 255)
    throw new OverlayError({
      code: "INVALID",
      message: "a key of the state is not ASCII, or too long",
    });
  return bytes;
}
