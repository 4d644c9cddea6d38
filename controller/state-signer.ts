import { BOUNDS } from "../shared/bounds.ts";
import type { ClusterState, SignedState, Takes } from "../shared/cluster-state.ts";
import { OverlayError } from "../shared/errors.ts";
import type { Hasher } from "../shared/ports.ts";
import { compareHeads, type StateHead, type StatePoint } from "../shared/state/head.ts";
import { RecentChanges } from "../shared/state/recent-changes.ts";
import { encodeContent } from "../shared/state/whole.ts";
import { type KeyPair, signHead, signState } from "../shared/trust.ts";
import { Heads } from "./core/heads.ts";

interface Change {
  readonly head: StateHead;
  readonly change: Uint8Array;
}

/**
 * Signs what is asked for, once: a head for each revision that somebody follows, the state whole only for who needs it so. What
 * is asked for is the newest state; changes are kept for who holds one of the last.
 */
export class StateSigner {
  readonly #keys: { readonly controller: KeyPair; readonly certificate: string };
  readonly #heads: Heads;
  #recent = new RecentChanges<Change>(({ change }) => change.length);
  #head: StateHead | undefined;
  readonly #signedHeads = new WeakMap<StateHead, Promise<string>>();
  readonly #wholes = new WeakMap<ClusterState, Promise<SignedState>>();
  readonly #contents = new WeakMap<StateHead, string>();

  constructor(
    keys: { readonly controller: KeyPair; readonly certificate: string },
    hasher: Hasher,
  ) {
    this.#keys = keys;
    this.#heads = new Heads(hasher);
  }

  pointOf(state: ClusterState): StatePoint {
    return { revision: state.revision, root: this.#heads.rootOf(state) };
  }

  /** It is the newest: what comes after it starts from it. */
  goesOnFrom(state: ClusterState): void {
    const { head, change } = this.#heads.of(state);
    if (head === this.#head) return;
    this.#head = head;
    if (change !== undefined) this.#recent = this.#recent.and({ head, change });
  }

  /**
   * As the asking host takes it; undefined: as 0.1.0 does. Whole also for one that knows of a host of 0.1.0, and hands it on,
   * as long as it can be. @throws UNSUPPORTED: it has become too large for a host of 0.1.0
   */
  async sign(state: ClusterState, takes?: Takes): Promise<SignedState> {
    if (takes === undefined) return this.#whole(state);
    const isNeeded = (takes.needWhole ?? []).length > 0;
    return isNeeded && fitsWhole(state) ? this.#whole(state) : this.#objects(state, takes.held);
  }

  /** What a host begins with, and keeps: whole while it can be, as whoever is put back to 0.1.0 reads it. */
  signFirst(state: ClusterState, takes?: Takes): Promise<SignedState> {
    return takes === undefined || fitsWhole(state)
      ? this.#whole(state)
      : this.#objects(state, undefined);
  }

  async #whole(state: ClusterState): Promise<SignedState> {
    checkFitsWhole(state);
    const { controller, certificate } = this.#keys;
    const signed = this.#wholes.get(state) ?? signState(controller, certificate, state);
    this.#wholes.set(state, signed);
    return signed;
  }

  async #objects(state: ClusterState, held: StatePoint | undefined): Promise<SignedState> {
    this.goesOnFrom(state);
    const { head, objects } = this.#heads.of(state);
    const { certificate } = this.#keys;
    const signed = { jws: await this.#signedHead(head), controllerCertificate: certificate };
    const isHeld = held !== undefined && compareHeads(held, head) === 0;
    const since = isHeld ? [] : this.#recent.since(held ?? {});
    if (since !== undefined) {
      const changes = since.map(async ({ head, change }) => ({
        jws: await this.#signedHead(head),
        change,
      }));
      return { ...signed, changes: await Promise.all(changes) };
    }
    const content = this.#contents.get(head) ?? encodeContent(objects);
    this.#contents.set(head, content);
    return { ...signed, content };
  }

  #signedHead(head: StateHead): Promise<string> {
    const signed = this.#signedHeads.get(head) ?? signHead(this.#keys.controller, head);
    this.#signedHeads.set(head, signed);
    return signed;
  }
}

/** As it is signed for hosts that hold nothing of it. */
export function signForAll(
  keys: { readonly controller: KeyPair; readonly certificate: string },
  state: ClusterState,
  hasher: Hasher,
): Promise<SignedState> {
  return new StateSigner(keys, hasher).signFirst(state, {});
}

const wholeBytes = new WeakMap<ClusterState, number>();

/** Of the state's compact JWS (RFC 7515): base64url of the JSON, and room for head and signature. */
export function bytesOfWhole(state: ClusterState): number {
  const bytes =
    wholeBytes.get(state) ?? Math.ceil((Buffer.byteLength(JSON.stringify(state)) * 4) / 3) + 256;
  wholeBytes.set(state, bytes);
  return bytes;
}

function fitsWhole(state: ClusterState): boolean {
  return bytesOfWhole(state) <= BOUNDS.stateBytes;
}

/** @throws UNSUPPORTED */
export function checkFitsWhole(state: ClusterState): void {
  if (fitsWhole(state)) return;
  throw new OverlayError({
    code: "UNSUPPORTED",
    message: `the cluster's state has ${bytesOfWhole(state)} bytes as hosts of 0.1.0 take it, and ${BOUNDS.stateBytes} is the most that they do`,
    next: "upgrade overlay-ts on the asking host",
  });
}
