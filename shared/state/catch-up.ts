import { toBase64Url } from "../base64url.ts";
import { equalBytes } from "../codec.ts";
import type { NetworkId } from "../ids.ts";
import type { Hasher } from "../ports.ts";
import { blocksLeaves } from "./delta.ts";
import { rootText, type StateHead } from "./head.ts";
import type { HeldBlocks, HeldState } from "./held-state.ts";
import { bucketHash, differing, type Leaf, leafOf, Leaves, rootOf } from "./leaves.ts";
import { blocksKey, keyParts } from "./object-key.ts";
import type { NetworkBlocks, StateObjects } from "./objects.ts";

/** Each is of one head; what is below is asked for where what is above differs. */
export type Question =
  | { readonly kind: "buckets" }
  | { readonly kind: "leaves"; readonly buckets: readonly number[] }
  | { readonly kind: "objects"; readonly keys: readonly string[] }
  /** All blocks of each: of 1,000 hosts they are 60 KB. */
  | { readonly kind: "blocks"; readonly networks: readonly NetworkId[] };

/** Of some of what was asked: who answers says no more than a message holds. */
export type Answer =
  | { readonly kind: "buckets"; readonly hashes: readonly Uint8Array[] }
  | { readonly kind: "leaves"; readonly buckets: ReadonlyMap<number, ReadonlyMap<string, Leaf>> }
  | { readonly kind: "objects"; readonly objects: StateObjects }
  | { readonly kind: "blocks"; readonly networks: ReadonlyMap<NetworkId, NetworkBlocks> };

/** Of one question. */
const MOST = { leaves: 64, objects: 256, blocks: 64 } as const;

/** Whether this host needs a network's blocks. */
export type NeedsBlocks = (network: NetworkId) => boolean;

/**
 * The way from what is held, or nothing, to a signed head, by questions to any peer that has it. Every answer is held
 * against the head's root as it comes, and nothing shows before the last: `result`. Of the same head it is the way to
 * blocks that are awaited.
 */
export class CatchUp {
  readonly #from: Omit<HeldState, "head">;
  readonly #needs: NeedsBlocks;
  readonly #hasher: Hasher;
  #head: StateHead;
  #hashes: readonly Uint8Array[] | undefined;
  readonly #buckets = new Map<number, ReadonlyMap<string, Leaf>>();
  /** By its leaf: what was had for one head is not asked for again for the next. */
  readonly #bodies = new Map<string, Uint8Array>();
  readonly #blocks = new Map<string, HeldBlocks>();

  constructor(held: HeldState | undefined, head: StateHead, needs: NeedsBlocks, hasher: Hasher) {
    this.#from = held ?? { leaves: Leaves.none(hasher), objects: new Map(), blocks: new Map() };
    this.#needs = needs;
    this.#hasher = hasher;
    this.#head = head;
    this.towards(head);
  }

  get head(): StateHead {
    return this.#head;
  }

  /** A newer one came: on to it, with the bodies that are there. */
  towards(head: StateHead): void {
    this.#head = head;
    const isHere = rootText(this.#from.leaves) === head.root;
    this.#hashes = isHere ? this.#from.leaves.bucketHashes() : undefined;
    this.#buckets.clear();
  }

  /** Undefined: everything is there. */
  next(): Question | undefined {
    if (this.#hashes === undefined) return { kind: "buckets" };
    const buckets = this.#differing().filter((index) => !this.#buckets.has(index));
    if (buckets.length > 0) return { kind: "leaves", buckets: buckets.slice(0, MOST.leaves) };
    const keys = [...this.#changedObjects()].flatMap(([key, leaf]) =>
      leaf === undefined || this.#bodies.has(toBase64Url(leaf)) ? [] : [key],
    );
    if (keys.length > 0) return { kind: "objects", keys: keys.slice(0, MOST.objects) };
    const networks = [...this.#neededBlocks()].flatMap(([network, leaf]) =>
      this.#blocks.has(toBase64Url(leaf)) ? [] : [network],
    );
    return networks.length > 0
      ? { kind: "blocks", networks: networks.slice(0, MOST.blocks) }
      : undefined;
  }

  /** False: it is not of the head, or says nothing that was asked. Another peer, or a newer head, is to be tried. */
  take(answer: Answer): boolean {
    switch (answer.kind) {
      case "buckets":
        if (toBase64Url(rootOf(answer.hashes, this.#hasher)) !== this.#head.root) return false;
        this.#hashes = answer.hashes;
        return true;
      case "leaves":
        return takeAll(answer.buckets, (index, leaves) => {
          const hash = this.#hashes?.[index];
          if (hash === undefined || !equalBytes(bucketHash(leaves, this.#hasher), hash))
            return false;
          this.#buckets.set(index, leaves);
          return true;
        });
      case "objects": {
        const changed = this.#changedObjects();
        return takeAll(answer.objects, (key, bytes) => {
          const [leaf, is] = [changed.get(key), leafOf(bytes, this.#hasher)];
          if (leaf === undefined || !equalBytes(is, leaf)) return false;
          this.#bodies.set(toBase64Url(leaf), bytes);
          return true;
        });
      }
      case "blocks": {
        const needed = this.#neededBlocks();
        return takeAll(answer.networks, (network, hosts) => {
          const [leaf, leaves] = [needed.get(network), blocksLeaves(hosts, this.#hasher)];
          if (leaf === undefined || !equalBytes(leaves.root(), leaf)) return false;
          this.#blocks.set(toBase64Url(leaf), { hosts, leaves });
          return true;
        });
      }
    }
  }

  /** When there is nothing more to ask. Undefined: there is, or it is not the head's all the same. */
  result(): HeldState | undefined {
    if (this.next() !== undefined) return undefined;
    const leaves = this.#leaves();
    if (rootText(leaves) !== this.#head.root) return undefined;
    const objects = new Map(this.#from.objects);
    for (const [key, leaf] of this.#changedObjects()) {
      const bytes = leaf && this.#bodies.get(toBase64Url(leaf));
      if (bytes === undefined) objects.delete(key);
      else objects.set(key, bytes);
    }
    const blocks = new Map(this.#from.blocks);
    for (const network of blocks.keys())
      if (!this.#needs(network) || leaves.get(blocksKey(network)) === undefined)
        blocks.delete(network);
    for (const [network, leaf] of this.#neededBlocks())
      blocks.set(network, this.#blocks.get(toBase64Url(leaf))!);
    return { head: this.#head, objects, leaves, blocks };
  }

  #differing(): number[] {
    return differing(this.#from.leaves.bucketHashes(), this.#hashes ?? []);
  }

  /** Those of the head, as far as its buckets are there. */
  #leaves(): Leaves {
    return this.#from.leaves.with(this.#changed());
  }

  /** Other, new or, undefined, gone. */
  *#changed(): Generator<[string, Leaf | undefined]> {
    for (const index of this.#differing()) {
      const theirs = this.#buckets.get(index);
      if (theirs === undefined) continue;
      const ours = this.#from.leaves.bucket(index);
      for (const [key, leaf] of theirs) {
        const held = ours.get(key);
        if (held === undefined || !equalBytes(held, leaf)) yield [key, leaf];
      }
      for (const key of ours.keys()) if (!theirs.has(key)) yield [key, undefined];
    }
  }

  #changedObjects(): Map<string, Leaf | undefined> {
    return new Map([...this.#changed()].filter(([key]) => keyParts(key).kind !== "blocks"));
  }

  /** Of networks that this host needs, and does not have as the head says. */
  #neededBlocks(): Map<NetworkId, Leaf> {
    const needed = new Map<NetworkId, Leaf>();
    for (const [key, leaf] of this.#leaves().entries()) {
      const parts = keyParts(key);
      if (parts.kind !== "blocks" || !this.#needs(parts.network)) continue;
      const held = this.#from.blocks.get(parts.network)?.leaves.root();
      if (held === undefined || !equalBytes(held, leaf)) needed.set(parts.network, leaf);
    }
    return needed;
  }
}

/** What `held` says to it, at most about so many bytes, and at least one of what it has. */
export function answerTo(question: Question, held: HeldState, maxBytes: number): Answer {
  switch (question.kind) {
    case "buckets":
      return { kind: "buckets", hashes: held.leaves.bucketHashes() };
    case "leaves": {
      const buckets = question.buckets.map((index) => [index, held.leaves.bucket(index)] as const);
      return { kind: "leaves", buckets: fitting(buckets, bytesOf, maxBytes) };
    }
    case "objects": {
      const found = question.keys.flatMap((key) => {
        const bytes = held.objects.get(key);
        return bytes === undefined ? [] : [[key, bytes] as const];
      });
      return { kind: "objects", objects: fitting(found, ({ length }) => length, maxBytes) };
    }
    case "blocks": {
      const found = question.networks.flatMap((network) => {
        const hosts = held.blocks.get(network)?.hosts;
        return hosts === undefined ? [] : [[network, hosts] as const];
      });
      return { kind: "blocks", networks: fitting(found, bytesOf, maxBytes) };
    }
  }
}

function fitting<K, V>(
  all: readonly (readonly [K, V])[],
  size: (value: V) => number,
  maxBytes: number,
): Map<K, V> {
  const some = new Map<K, V>();
  let bytes = 0;
  for (const [key, value] of all) {
    bytes += size(value);
    if (some.size > 0 && bytes > maxBytes) break;
    some.set(key, value);
  }
  return some;
}

/** About: keys, values, and what stands between. */
function bytesOf(values: ReadonlyMap<string, Uint8Array>): number {
  return [...values].reduce((sum, [key, value]) => sum + key.length + value.length + 8, 0);
}

/** False: one of them is not taken, or there is none. */
function takeAll<K, V>(all: ReadonlyMap<K, V>, take: (key: K, value: V) => boolean): boolean {
  for (const [key, value] of all) if (!take(key, value)) return false;
  return all.size > 0;
}
