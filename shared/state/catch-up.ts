import { toBase64Url } from "../base64url.ts";
import { equalBytes } from "../codec.ts";
import type { Hasher } from "../ports.ts";
import type { StateHead } from "./head.ts";
import { type HeldState, heldState } from "./held-state.ts";
import {
  bucketHash,
  BUCKETS,
  differing,
  hashOfBucket,
  ObjectTree,
  rootOf,
  type StateObjects,
} from "./object-tree.ts";

/** Each is of one head; objects are asked for where the hashes of their bucket differ. */
export type Question =
  { readonly kind: "hashes" } | { readonly kind: "objects"; readonly buckets: readonly number[] };

/** Of objects: of some of what was asked, as who answers says no more than a message holds. */
export type Answer =
  | { readonly kind: "hashes"; readonly hashes: Uint8Array }
  | { readonly kind: "objects"; readonly buckets: readonly BucketEntry[] };

export type BucketEntry = readonly [number, readonly (readonly [string, Uint8Array])[]];

/**
 * The way from what is held, or nothing, to a signed head, by questions to any peer that has it. Every answer is held
 * against the head's root as it comes, and nothing shows before the last: `result`.
 */
export class CatchUp {
  readonly #from: ObjectTree;
  readonly #hasher: Hasher;
  #head: StateHead;
  #hashes: Uint8Array | undefined;
  /** By its hash: what was had for one head is not asked for again for the next. */
  readonly #had = new Map<string, StateObjects>();

  constructor(held: HeldState | undefined, head: StateHead, hasher: Hasher) {
    this.#from = held?.objects ?? ObjectTree.none(hasher);
    this.#hasher = hasher;
    this.#head = head;
  }

  get head(): StateHead {
    return this.#head;
  }

  /** A newer one came: on to it, with the buckets that are there. */
  towards(head: StateHead): void {
    this.#head = head;
    this.#hashes = undefined;
  }

  /** Undefined: everything is there. */
  next(): Question | undefined {
    const hashes = this.#hashes;
    if (hashes === undefined) return { kind: "hashes" };
    const buckets = this.#differing().filter((index) => this.#objects(hashes, index) === undefined);
    return buckets.length > 0 ? { kind: "objects", buckets } : undefined;
  }

  /** False: it is not of the head, or says nothing that is asked now: who says that for ever is not to be asked for ever. */
  take(answer: Answer): boolean {
    const asked = this.next();
    if (asked?.kind !== answer.kind) return false;
    if (answer.kind === "hashes") {
      if (toBase64Url(rootOf(answer.hashes, this.#hasher)) !== this.#head.root) return false;
      this.#hashes = answer.hashes;
      return true;
    }
    const hashes = this.#hashes;
    if (hashes === undefined || asked.kind === "hashes") return false;
    for (const [index, entries] of answer.buckets) {
      const objects = new Map(entries);
      const hash = hashOfBucket(hashes, index);
      if (!equalBytes(bucketHash(objects, this.#hasher), hash)) return false;
      this.#had.set(toBase64Url(hash), objects);
    }
    return answer.buckets.some(([index]) => asked.buckets.includes(index));
  }

  /** When there is nothing more to ask. Undefined: there is. */
  result(): HeldState | undefined {
    const hashes = this.#hashes;
    if (hashes === undefined || this.next() !== undefined) return undefined;
    const buckets = this.#differing().map(
      (index) => [index, this.#objects(hashes, index)!] as const,
    );
    return heldState(this.#head, this.#from.withBuckets(new Map(buckets)));
  }

  #differing(): number[] {
    return this.#hashes === undefined ? [] : differing(this.#from.bucketHashes(), this.#hashes);
  }

  #objects(hashes: Uint8Array, index: number): StateObjects | undefined {
    return this.#had.get(toBase64Url(hashOfBucket(hashes, index)));
  }
}

/** What `held` says to it, of objects at most about so many bytes, and at least one bucket. */
export function answerTo(question: Question, { objects }: HeldState, maxBytes: number): Answer {
  if (question.kind === "hashes") return { kind: "hashes", hashes: objects.bucketHashes() };
  const buckets: BucketEntry[] = [];
  let bytes = 0;
  for (const index of question.buckets.filter((index) => index < BUCKETS)) {
    const entries = [...objects.bucket(index)];
    bytes += entries.reduce((sum, [key, object]) => sum + key.length + object.length + 8, 8);
    if (buckets.length > 0 && bytes > maxBytes) break;
    buckets.push([index, entries]);
  }
  return { kind: "objects", buckets };
}
