import { toBase64Url } from "../shared/base64url.ts";
import type { ClusterState, SignedState } from "../shared/cluster-state.ts";
import type { Hasher } from "../shared/ports.ts";
import { MOST_CHANGE_BYTES } from "../shared/state/change.ts";
import { type KeyPair, signHead, signState } from "../shared/trust.ts";
import { Heads } from "./core/heads.ts";

/** Signs each revision once: whole, and beside it the head over the same objects with what changed since the one before. */
export class StateSigner {
  readonly #keys: { readonly controller: KeyPair; readonly certificate: string };
  readonly #heads: Heads;
  #last: { readonly revision: number; readonly signed: Promise<SignedState> } | undefined;

  constructor(
    keys: { readonly controller: KeyPair; readonly certificate: string },
    hasher: Hasher,
  ) {
    this.#keys = keys;
    this.#heads = new Heads(hasher);
  }

  /** What is signed next says what changed since this state, after a start as well. */
  goesOnFrom(state: ClusterState): void {
    this.#heads.of(state);
  }

  sign(state: ClusterState): Promise<SignedState> {
    if (this.#last?.revision !== state.revision)
      this.#last = { revision: state.revision, signed: this.#sign(state) };
    return this.#last.signed;
  }

  async #sign(state: ClusterState): Promise<SignedState> {
    const { controller, certificate } = this.#keys;
    const { head, change } = this.#heads.of(state);
    const whole = await signState(controller, certificate, state);
    // What is too large to be handed on is had as a whole.
    if (change === undefined || change.length > MOST_CHANGE_BYTES) return whole;
    return {
      ...whole,
      change: { jws: await signHead(controller, head), change: toBase64Url(change) },
    };
  }
}
