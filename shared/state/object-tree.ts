import { equalBytes } from "../codec.ts";
import { OverlayError } from "../errors.ts";
import type { Hasher } from "../ports.ts";

/**
 * Of which a change touches one: of 45,000 objects a bucket holds 44, some 6 KB. Two who differ compare 32 KB of hashes, then
 * the buckets that differ.
 */
export const BUCKETS = 1024;

/** What is hashed says what it is, so that none can be shown as another (RFC 6962, section 2.1). */
const OF_BUCKET = 1;
const OF_ROOT = Uint8Array.of(2);

/** An object is its bytes, deterministic CBOR: what a host cannot read of it, it keeps and hands on. */
export type StateObjects = ReadonlyMap<string, Uint8Array>;

/** From one revision to the next: objects that are new or other, keys that are gone, each in the order of their text. */
export interface StateChange {
  readonly put: readonly (readonly [string, Uint8Array])[];
  readonly drop: readonly string[];
}

const HASH_BYTES = 32;
const NOTHING: StateObjects = new Map();

/**
 * Objects by key, in buckets by the key's hash, under one root: equal for equal objects, however they came to be. A value: a
 * change makes another and leaves this one as it is, so what is new can be compared with a signed root before anything of it
 * shows. A change copies and hashes its buckets, and hashes the root.
 */
export class ObjectTree {
  readonly #hasher: Hasher;
  readonly #buckets: readonly StateObjects[];
  readonly #hashes: Uint8Array;
  #root: Uint8Array | undefined;

  private constructor(hasher: Hasher, buckets: readonly StateObjects[], hashes: Uint8Array) {
    this.#hasher = hasher;
    this.#buckets = buckets;
    this.#hashes = hashes;
  }

  static none(hasher: Hasher): ObjectTree {
    const hashes = new Uint8Array(BUCKETS * HASH_BYTES);
    const empty = bucketHash(NOTHING, hasher);
    for (let index = 0; index < BUCKETS; index++) hashes.set(empty, index * HASH_BYTES);
    return new ObjectTree(
      hasher,
      Array.from({ length: BUCKETS }, () => NOTHING),
      hashes,
    );
  }

  static of(objects: Iterable<readonly [string, Uint8Array]>, hasher: Hasher): ObjectTree {
    return ObjectTree.none(hasher).with({ put: [...objects], drop: [] });
  }

  get(key: string): Uint8Array | undefined {
    return this.bucket(this.#index(key)).get(key);
  }

  *entries(): IterableIterator<[string, Uint8Array]> {
    for (const objects of this.#buckets) yield* objects;
  }

  with({ put, drop }: StateChange): ObjectTree {
    const changed = new Map<number, Map<string, Uint8Array>>();
    const bucket = (key: string): Map<string, Uint8Array> => {
      const index = this.#index(key);
      const objects = changed.get(index) ?? new Map(this.bucket(index));
      changed.set(index, objects);
      return objects;
    };
    for (const [key, bytes] of put) bucket(key).set(key, bytes);
    for (const key of drop) bucket(key).delete(key);
    return this.withBuckets(changed);
  }

  /** With these in the place of those buckets, whatever is in them. */
  withBuckets(changed: ReadonlyMap<number, StateObjects>): ObjectTree {
    if (changed.size === 0) return this;
    const [buckets, hashes] = [this.#buckets.slice(), this.#hashes.slice()];
    for (const [index, objects] of changed) {
      buckets[index] = objects;
      hashes.set(bucketHash(objects, this.#hasher), index * HASH_BYTES);
    }
    return new ObjectTree(this.#hasher, buckets, hashes);
  }

  /** From this one to the other, of which only buckets that differ are looked at. */
  changeTo(other: ObjectTree): StateChange {
    const put: [string, Uint8Array][] = [];
    const drop: string[] = [];
    for (const index of differing(this.#hashes, other.#hashes)) {
      const [ours, theirs] = [this.bucket(index), other.bucket(index)];
      for (const [key, object] of theirs) {
        const held = ours.get(key);
        if (held === undefined || !equalBytes(held, object)) put.push([key, object]);
      }
      for (const key of ours.keys()) if (!theirs.has(key)) drop.push(key);
    }
    return { put, drop };
  }

  root(): Uint8Array {
    this.#root ??= rootOf(this.#hashes, this.#hasher);
    return this.#root;
  }

  /** One after the other. */
  bucketHashes(): Uint8Array {
    return this.#hashes;
  }

  bucket(index: number): StateObjects {
    return this.#buckets[index] ?? NOTHING;
  }

  #index(key: string): number {
    const [high = 0, low = 0] = this.#hasher.sha256(ascii(key));
    return ((high << 8) | low) % BUCKETS;
  }
}

/** The root that these buckets have: what a peer says of its buckets is held against the signed one. */
export function rootOf(bucketHashes: Uint8Array, hasher: Hasher): Uint8Array {
  return hasher.sha256(OF_ROOT, bucketHashes);
}

export function hashOfBucket(bucketHashes: Uint8Array, index: number): Uint8Array {
  return bucketHashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES);
}

/** The buckets in which two differ. */
export function differing(ours: Uint8Array, theirs: Uint8Array): number[] {
  return Array.from({ length: BUCKETS }, (_, index) => index).filter(
    (index) => !equalBytes(hashOfBucket(ours, index), hashOfBucket(theirs, index)),
  );
}

/** Of the objects of one bucket; whether they belong there follows from the root alone. @throws INVALID */
export function bucketHash(objects: StateObjects, hasher: Hasher): Uint8Array {
  const keys = [...objects.keys()].toSorted();
  const parts = keys.map((key) => [ascii(key), objects.get(key)!] as const);
  const length = parts.reduce((sum, [key, object]) => sum + key.length + object.length + 5, 1);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  bytes[0] = OF_BUCKET;
  let at = 1;
  for (const [key, object] of parts) {
    bytes[at] = key.length;
    view.setUint32(at + 1, object.length);
    bytes.set(key, at + 5);
    bytes.set(object, at + 5 + key.length);
    at += 5 + key.length + object.length;
  }
  return hasher.sha256(bytes);
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
