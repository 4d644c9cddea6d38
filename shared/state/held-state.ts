import { equalBytes } from "../codec.ts";
import type { NetworkId } from "../ids.ts";
import type { Hasher } from "../ports.ts";
import {
  applied,
  type BlocksDelta,
  blocksLeaves,
  leafChanges,
  leavesOf,
  type StateDelta,
} from "./delta.ts";
import { changesHash, compareHeads, rootText, type StateHead } from "./head.ts";
import { leafOf, Leaves } from "./leaves.ts";
import { blocksKey } from "./object-key.ts";
import type { NetworkBlocks, StateContent, StateObjects } from "./objects.ts";

/** Of one head, its objects and all leaves, and the blocks of some networks. A value: replaced whole or not at all. */
export interface HeldState {
  readonly head: StateHead;
  readonly objects: StateObjects;
  readonly leaves: Leaves;
  /** Of networks that this host needs, as they were had last: `blocksOf` says whether they still are. */
  readonly blocks: ReadonlyMap<NetworkId, HeldBlocks>;
}

export interface HeldBlocks {
  readonly hosts: NetworkBlocks;
  readonly leaves: Leaves;
}

export type Refusal =
  /** Not the changes that the head was signed over. */
  | "changes"
  /** Of another cluster. */
  | "cluster"
  /** With the changes the objects are not those of the head. */
  | "root"
  /** The blocks of some network are not. */
  | "blocks";

export type Taken =
  | { readonly kind: "taken"; readonly held: HeldState }
  /** What is held is as new, or newer. */
  | { readonly kind: "known" }
  /** It starts from something else: it may fit later, or what lies between is to be asked for. */
  | { readonly kind: "gap" }
  | { readonly kind: "refused"; readonly why: Refusal };

/** The whole of a state, as its controller has it. Undefined: it is not that of the head. */
export function heldState(
  head: StateHead,
  { objects, blocks }: StateContent,
  hasher: Hasher,
): HeldState | undefined {
  const leaves = leavesOf({ objects, blocks }, hasher);
  if (rootText(leaves) !== head.root) return undefined;
  const held = [...blocks].map(
    ([network, hosts]) => [network, { hosts, leaves: blocksLeaves(hosts, hasher) }] as const,
  );
  return { head, objects, leaves, blocks: new Map(held) };
}

/**
 * A head whose signature was checked, with what changed since its base. Nothing of it shows before the changed leaves have
 * the head's root: no object under a head that does not hold it, none of another revision left beside. Blocks that are
 * others now are awaited until `takeBlocks`.
 */
export function take(held: HeldState, head: StateHead, delta: StateDelta, hasher: Hasher): Taken {
  if (head.cluster !== held.head.cluster) return { kind: "refused", why: "cluster" };
  // Before anything else is asked of it: a lie costs one hash, and is not kept for later.
  if (head.changes !== changesHash(delta, hasher)) return { kind: "refused", why: "changes" };
  if (compareHeads(head, held.head) <= 0) return { kind: "known" };
  if (head.base === undefined || compareHeads(head.base, held.head) !== 0) return { kind: "gap" };
  const leaves = held.leaves.with(leafChanges(delta, hasher));
  if (rootText(leaves) !== head.root) return { kind: "refused", why: "root" };
  return {
    kind: "taken",
    held: { ...held, head, leaves, objects: applied(held.objects, delta) },
  };
}

/**
 * What changed of the blocks of one network. Undefined: it does not lead to the leaf of the head that is held; it came early, or
 * there was one before it, or it is a lie.
 */
export function takeBlocks(
  held: HeldState,
  { network, put, drop }: BlocksDelta,
  hasher: Hasher,
): HeldState | undefined {
  const before = held.blocks.get(network);
  const leaves = (before?.leaves ?? Leaves.none(hasher)).with([
    ...put.map(([node, bytes]) => [node, leafOf(bytes, hasher)] as const),
    ...drop.map((node) => [node, undefined] as const),
  ]);
  return withBlocks(held, network, {
    hosts: applied(before?.hosts ?? new Map(), { put, drop }),
    leaves,
  });
}

/** All blocks of a network, whatever was held of it. Undefined: they are not those of the head. */
export function takeAllBlocks(
  held: HeldState,
  network: NetworkId,
  hosts: NetworkBlocks,
  hasher: Hasher,
): HeldState | undefined {
  return withBlocks(held, network, { hosts, leaves: blocksLeaves(hosts, hasher) });
}

/** No longer needed: its leaf is all that is kept. */
export function forgetBlocks(held: HeldState, network: NetworkId): HeldState {
  const blocks = new Map(held.blocks);
  blocks.delete(network);
  return { ...held, blocks };
}

/**
 * "awaited" is a value of its own: that a network's blocks are not known says nothing of whether there are any, and who
 * took it for none would delete what stands.
 */
export function blocksOf(held: HeldState, network: NetworkId): NetworkBlocks | "awaited" {
  const leaf = held.leaves.get(blocksKey(network));
  if (leaf === undefined) return new Map();
  const kept = held.blocks.get(network);
  return kept !== undefined && equalBytes(kept.leaves.root(), leaf) ? kept.hosts : "awaited";
}

function withBlocks(
  held: HeldState,
  network: NetworkId,
  blocks: HeldBlocks,
): HeldState | undefined {
  const leaf = held.leaves.get(blocksKey(network));
  const isEnd = leaf === undefined && blocks.hosts.size === 0;
  if (!isEnd && (leaf === undefined || !equalBytes(blocks.leaves.root(), leaf))) return undefined;
  const after = new Map(held.blocks);
  if (isEnd) after.delete(network);
  else after.set(network, blocks);
  return { ...held, blocks: after };
}
