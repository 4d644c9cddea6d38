import type { Hasher } from "../ports.ts";
import { decodeChange } from "./change.ts";
import { changesHash, compareHeads, rootText, type StateHead } from "./head.ts";
import type { ObjectTree, StateChange } from "./object-tree.ts";

/** Of one head, all its objects. A value: replaced whole or not at all. */
export interface HeldState {
  readonly head: StateHead;
  readonly objects: ObjectTree;
}

export type Refusal =
  /** Not the changes that the head was signed over. */
  | "changes"
  /** Of another cluster. */
  | "cluster"
  /** With the changes the objects are not those of the head. */
  | "root";

export type Taken =
  | { readonly kind: "taken"; readonly held: HeldState; readonly change: StateChange }
  /** What is held is as new, or newer. */
  | { readonly kind: "known" }
  /** It starts from something else: it may fit later, or what lies between is to be asked for. */
  | { readonly kind: "gap" }
  | { readonly kind: "refused"; readonly why: Refusal };

/** Undefined: they are not those of the head. */
export function heldState(head: StateHead, objects: ObjectTree): HeldState | undefined {
  return rootText(objects) === head.root ? { head, objects } : undefined;
}

/**
 * A head whose signature was checked, with what changed since its base as it travelled. Nothing of it shows before the
 * changed objects have the head's root: no object under a head that does not hold it, none of another revision left beside.
 * @throws INVALID, TOO_LARGE: the controller signed what nobody can read
 */
export function take(held: HeldState, head: StateHead, bytes: Uint8Array, hasher: Hasher): Taken {
  if (head.cluster !== held.head.cluster) return { kind: "refused", why: "cluster" };
  // Before anything else is asked of it: a lie costs one hash, is not read, and is not kept for later.
  if (head.changes !== changesHash(bytes, hasher)) return { kind: "refused", why: "changes" };
  if (compareHeads(head, held.head) <= 0) return { kind: "known" };
  if (head.base === undefined || compareHeads(head.base, held.head) !== 0) return { kind: "gap" };
  const change = decodeChange(bytes);
  const objects = held.objects.with(change);
  if (rootText(objects) !== head.root) return { kind: "refused", why: "root" };
  return { kind: "taken", held: { head, objects }, change };
}
