import type {
  ClusterState,
  SignedChange,
  SignedHead,
  SignedState,
} from "../../../shared/cluster-state.ts";
import { assert, OverlayError } from "../../../shared/errors.ts";
import type { Hasher } from "../../../shared/ports.ts";
import { EarlyChanges } from "../../../shared/state/early-changes.ts";
import { headIn, headOf, type StateHead, type StatePoint } from "../../../shared/state/head.ts";
import {
  type HeldState,
  heldState,
  type Refusal,
  take,
  type Taken,
} from "../../../shared/state/held-state.ts";
import { ObjectTree } from "../../../shared/state/object-tree.ts";
import { inOneOrder, objectsOf, stateWith } from "../../../shared/state/objects.ts";
import { MOST_CHANGES, RecentChanges } from "../../../shared/state/recent-changes.ts";
import { encodeContent, heldUnder } from "../../../shared/state/whole.ts";

/** A change whose head was signed by the controller. */
export interface HeadedChange {
  readonly signed: SignedChange;
  readonly head: StateHead;
}

export type Followed =
  | { readonly kind: "followed"; readonly state: ClusterState }
  /** It starts from something else than what is held. */
  | { readonly kind: "early" | "known" }
  | { readonly kind: "refused"; readonly why: Refusal | "malformed" };

/** A disk holds so much; then all objects are one proof again. */
const MOST_ON_DISK_BYTES = 256 * 1024;

/** Fifths of a second when twenty containers start in each. */
const MOST_FORMER = 4;

/**
 * The controller's state as it was signed: whole, or as objects under a head, and the changes since. What it says of the state
 * is `Tables`' concern; here is what proves it to others, and what the next change starts from.
 */
export class FollowedState {
  readonly #hasher: Hasher;
  readonly #early = new EarlyChanges<HeadedChange>();
  #state: ClusterState | undefined;
  #base: SignedState | undefined;
  /** That of the newest. */
  #certificate = "";
  /** Since `#base`. */
  #changes: readonly HeadedChange[] = [];
  /** The newest without a gap, for peers: up to what is held, also before `#base`. */
  #recent = new RecentChanges<HeadedChange>(({ signed }) => signed.change.length);
  /** Of `#state`; undefined: nobody has needed it yet. */
  #held: HeldState | undefined;
  /** The newest first; they share all but the buckets that changed. */
  #former: readonly HeldState[] = [];
  /** Of what is held, made once. */
  #proof: SignedState | undefined;
  /** A change that should have fitted did not: nothing is to be put on what is held. */
  #isDoubtful = false;

  constructor(hasher: Hasher) {
    this.#hasher = hasher;
  }

  /** A state that was taken in as a whole, its signature checked. */
  whole({ jws, controllerCertificate, content }: SignedState, state: ClusterState): void {
    this.#base = { jws, controllerCertificate, ...(content === undefined ? {} : { content }) };
    this.#certificate = controllerCertificate;
    this.#changes = [];
    this.#state = inOneOrder(state);
    this.#held = undefined;
    this.#proof = undefined;
    this.#isDoubtful = false;
    this.#recent = new RecentChanges(({ signed }) => signed.change.length);
  }

  /** What is held came by changes, and is signed whole as well. */
  alsoWhole({ jws, controllerCertificate }: SignedState): void {
    this.#base = { jws, controllerCertificate };
    this.#certificate = controllerCertificate;
    this.#changes = [];
  }

  /** As the controller signed it for all hosts, those of 0.1.0 too; undefined: only changes came. */
  signedWhole(): SignedState | undefined {
    return this.#changes.length === 0 && this.#base?.content === undefined ? this.#base : undefined;
  }

  /** The state and the changes since. */
  signed(): { readonly state: SignedState | undefined; readonly changes: readonly HeadedChange[] } {
    return { state: this.#base, changes: this.#changes };
  }

  certificate(): string {
    return this.#certificate;
  }

  /** On to its revision, or why not; what came before its base waits for it. */
  follow(headed: HeadedChange): Followed {
    const held = this.#holding();
    if (held === undefined) return { kind: "known" };
    let taken: Taken;
    try {
      taken = take(held, headed.head, headed.signed.change, this.#hasher);
    } catch (error) {
      if (error instanceof OverlayError) return { kind: "refused", why: "malformed" };
      throw error;
    }
    switch (taken.kind) {
      case "gap":
        this.#early.keep(headed, headed.signed.change.length);
        return { kind: "early" };
      case "refused":
        if (taken.why === "root") this.#isDoubtful = true;
        return taken;
      case "known":
        return { kind: "known" };
      case "taken":
        return { kind: "followed", state: this.#take(headed, taken) };
    }
  }

  /** What came early and fits now. */
  next(): HeadedChange | undefined {
    const held = this.#early.size === 0 ? undefined : this.#holding();
    return held && this.#early.next(held.head);
  }

  /** Changes come, so one that is missing may be on its way. */
  comesByChanges(): boolean {
    return this.#recent.size > 0;
  }

  /** What a change can be put on; undefined: a whole is needed. */
  root(): string | undefined {
    return this.#isDoubtful ? undefined : this.#holding()?.head.root;
  }

  /** What leads from the state of this root to the one that is held; undefined: that is not known any more. */
  since(root: string | undefined): readonly SignedChange[] | undefined {
    return this.#recent.since(root === undefined ? {} : { root })?.map(({ signed }) => signed);
  }

  /** What is held, for who holds nothing that leads to it. */
  proof(): SignedState | undefined {
    const last = this.#changes.at(-1);
    if (last === undefined) return this.#base;
    if (this.#proof?.jws === last.signed.jws) return this.#proof;
    const held = this.#holding();
    assert(held !== undefined, "what changes lead to is held");
    this.#proof = {
      jws: last.signed.jws,
      controllerCertificate: this.certificate(),
      content: encodeContent(held.objects),
    };
    return this.#proof;
  }

  /** The newest head as it was signed; undefined: it came whole, and nothing since. */
  signedHead(): SignedHead | undefined {
    const isObjects = this.#base?.content !== undefined;
    const newest = this.#changes.at(-1)?.signed ?? (isObjects ? this.#base : undefined);
    return newest && { jws: newest.jws, controllerCertificate: this.certificate() };
  }

  /** What is held, or was a moment ago: who asks for its objects is not to begin anew with each revision. */
  ofRoot(root: string): HeldState | undefined {
    const held = this.#holding();
    return held?.head.root === root ? held : this.#former.find(({ head }) => head.root === root);
  }

  /** As its head says; undefined: it came whole, and what its objects are is only derived from that. */
  point(): StatePoint | undefined {
    const head = this.signedHead() && this.#holding()?.head;
    return head && { revision: head.revision, root: head.root };
  }

  held(): HeldState | undefined {
    return this.#holding();
  }

  /** All objects under the head are there, whatever was held. @throws INVALID with the key of one that cannot be read */
  caughtUp(signed: SignedHead, held: HeldState): ClusterState {
    const before = this.#holding();
    assert(before !== undefined && this.#state !== undefined, "a member holds a state");
    const state = stateWith(this.#state, held.head, before.objects.changeTo(held.objects));
    this.whole({ ...signed, content: encodeContent(held.objects) }, state);
    this.#held = held;
    return state;
  }

  /** The changes have become too many: they are one proof from now on. @returns it, if so */
  gathered(): SignedState | undefined {
    const bytes = this.#changes.reduce((sum, { signed }) => sum + signed.change.length, 0);
    if (this.#changes.length < MOST_CHANGES && bytes < MOST_ON_DISK_BYTES) return undefined;
    this.#base = this.proof()!;
    this.#changes = [];
    return this.#base;
  }

  #take(headed: HeadedChange, { held, change }: Extract<Taken, { kind: "taken" }>): ClusterState {
    this.#state = stateWith(this.#state!, headed.head, change);
    this.#former = [this.#held!, ...this.#former].slice(0, MOST_FORMER);
    this.#held = held;
    this.#changes = [...this.#changes, headed];
    this.#certificate = headed.signed.controllerCertificate ?? this.#certificate;
    this.#recent = this.#recent.and(headed);
    return this.#state;
  }

  #holding(): HeldState | undefined {
    const [state, base] = [this.#state, this.#base];
    if (state === undefined || base === undefined || this.#held !== undefined) return this.#held;
    if (base.content === undefined) {
      const objects = ObjectTree.of(objectsOf(state), this.#hasher);
      this.#held = heldState(headOf(state, objects), objects);
    } else this.#held = heldUnder(headIn(base.jws), base.content, this.#hasher);
    return this.#held;
  }
}
