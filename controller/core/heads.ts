import type { ClusterState } from "../../shared/cluster-state.ts";
import type { Hasher } from "../../shared/ports.ts";
import { changeBetween, type StateChange } from "../../shared/state/change.ts";
import { leafChanges, leavesOf } from "../../shared/state/delta.ts";
import { headOf, type StateHead } from "../../shared/state/head.ts";
import type { Leaves } from "../../shared/state/leaves.ts";
import { contentOf, type StateContent } from "../../shared/state/objects.ts";

export interface HeadOfState {
  readonly head: StateHead;
  /** Since the head's base; undefined: there is none that is known here. */
  readonly change: StateChange | undefined;
}

interface Last extends HeadOfState {
  readonly state: ClusterState;
  readonly content: StateContent;
  readonly leaves: Leaves;
}

/**
 * The head over each revision's objects, and what changed since the revision before. Both follow from the states alone, so
 * nothing of them is stored: after a start the first state that is asked for has a head without a base.
 */
export class Heads {
  readonly #hasher: Hasher;
  #last: Last | undefined;

  constructor(hasher: Hasher) {
    this.#hasher = hasher;
  }

  /** The newer of two states is to be asked for last. */
  of(state: ClusterState): HeadOfState {
    const last = this.#last;
    if (last?.state === state) return last;
    const content = contentOf(state);
    if (last === undefined || state.revision <= last.state.revision) {
      const leaves = leavesOf(content, this.#hasher);
      this.#last = { state, content, leaves, head: headOf(state, leaves), change: undefined };
      return this.#last;
    }
    const change = changeBetween(last.content, content, this.#hasher);
    const leaves = last.leaves.with(leafChanges(change.objects, this.#hasher));
    const from = { base: last.head, delta: change.objects, hasher: this.#hasher };
    this.#last = { state, content, leaves, head: headOf(state, leaves, from), change };
    return this.#last;
  }
}
