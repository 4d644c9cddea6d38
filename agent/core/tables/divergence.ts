import { equalBytes } from "../../../shared/codec.ts";
import type { NodeId } from "../../../shared/ids.ts";

/** A difference between two hosts ends with the comparison that shows it; one that lasts is no delay. */
const LASTING_MS = 10_000;

interface Difference {
  /** Of both sides: when either changes it is another difference. */
  readonly hash: Uint8Array;
  readonly sinceMs: number;
  readonly lastMs: number;
}

/** How comparisons with each peer ended, of one network. */
export class Divergence {
  readonly #differences = new Map<NodeId, Difference>();

  same(peer: NodeId): void {
    this.#differences.delete(peer);
  }

  differs(peer: NodeId, hash: Uint8Array, nowMs: number): void {
    const held = this.#differences.get(peer);
    const same = held !== undefined && equalBytes(held.hash, hash);
    const sinceMs = same ? held.sinceMs : nowMs;
    this.#differences.set(peer, { hash, sinceMs, lastMs: nowMs });
  }

  /** Peers that held the same other tables, again and again. */
  lasting(): NodeId[] {
    return [...this.#differences].flatMap(([peer, { sinceMs, lastMs }]) =>
      lastMs - sinceMs >= LASTING_MS ? [peer] : [],
    );
  }
}
