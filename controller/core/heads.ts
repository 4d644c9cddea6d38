import type { ClusterState } from "../../shared/cluster-state.ts";
import type { Hasher } from "../../shared/ports.ts";
import { encodeChange } from "../../shared/state/change.ts";
import { headOf, rootText, type StateHead } from "../../shared/state/head.ts";
import type { HeldState } from "../../shared/state/held-state.ts";
import { ObjectTree } from "../../shared/state/object-tree.ts";
import { changeBetween, objectsOf } from "../../shared/state/objects.ts";

export interface HeadOfState {
  readonly head: StateHead;
  /** Since the head's base, as it travels; undefined: there is none that is known here. */
  readonly change: Uint8Array | undefined;
}

interface Last extends HeadOfState, HeldState {
  readonly state: ClusterState;
}

/**
 * The head over each revision's objects, and what changed since the revision before. Both follow from the states alone, so
 * nothing of them is stored: after a start the first state that is asked for has a head without a base.
 */
export class Heads {
  readonly #hasher: Hasher;
  #last: Last | undefined;
  readonly #roots = new WeakMap<ClusterState, string>();

  constructor(hasher: Hasher) {
    this.#hasher = hasher;
  }

  /** Of whatever state: nothing starts from it. */
  rootOf(state: ClusterState): string {
    if (this.#last?.state === state) return this.#last.head.root;
    const root = this.#roots.get(state) ?? rootText(ObjectTree.of(objectsOf(state), this.#hasher));
    this.#roots.set(state, root);
    return root;
  }

  /** Of the state, or of a newer one that was asked for before it. */
  of(state: ClusterState): HeadOfState & HeldState {
    const last = this.#last;
    // Asked for before the newest was there: what is told is the newest.
    if (last !== undefined && state.revision <= last.state.revision) return last;
    const hasher = this.#hasher;
    if (last === undefined) {
      const objects = ObjectTree.of(objectsOf(state), hasher);
      this.#last = { state, objects, head: headOf(state, objects), change: undefined };
      return this.#last;
    }
    const between = changeBetween(last.state, state);
    const [objects, change] = [last.objects.with(between), encodeChange(between)];
    const head = headOf(state, objects, { base: last.head, change, hasher });
    this.#last = { state, objects, head, change };
    return this.#last;
  }
}
