import { equalBytes } from "../../../shared/codec.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Random } from "../../../shared/ports.ts";

/** Comparisons in a row that found all equal, until they become rarer. */
const OFTEN = 4;
/** A pause is twice the one before, up to so many times the first. */
const RAREST = 4;

/**
 * When this host compares a table with a peer's next, and with whose. Often after news, which gossip may have lost on
 * its way to somebody; rarely while comparisons find all equal. Who missed the news is asked by those who have it, sees
 * by the question that it lacks something, and asks back: so the news spreads no later for its own rounds being rare.
 */
export class Rounds {
  readonly #periodMs: number;
  readonly #random: Random;
  /** By which a peer last differed: the same again is a difference that asking does not end. */
  readonly #askedBackFor = new Map<NodeId, Uint8Array>();
  #lastMs = -Infinity;
  #nextMs: number;
  #equal = 0;
  /** It holds something else, as its question showed. */
  #differs: NodeId | undefined;

  /** @param periodMs from one comparison to the next while there is news; half of it is jitter. */
  constructor(periodMs: number, random: Random, nowMs: number) {
    this.#periodMs = periodMs;
    this.#random = random;
    this.#nextMs = nowMs;
  }

  get nextMs(): number {
    return this.#nextMs;
  }

  /** Something is another here or at a peer: whoever missed it is to be found. */
  news(nowMs: number): void {
    this.#equal = 0;
    this.#nextMs = Math.min(this.#nextMs, nowMs + this.#jittered(this.#periodMs));
  }

  /** Nothing was had of a peer yet, and one may be there now. */
  soon(nowMs: number): void {
    this.#nextMs = Math.min(this.#nextMs, nowMs + this.#jittered(this.#quickMs()));
  }

  /** A comparison found nothing that one side lacks. */
  equal(): void {
    this.#equal++;
  }

  /** Who asks holds something else, and may hold what we lack: asked back soon, and once for the same. */
  askBack(from: NodeId, hash: Uint8Array): void {
    const before = this.#askedBackFor.get(from);
    if (before !== undefined && equalBytes(before, hash)) return;
    this.#askedBackFor.set(from, hash);
    this.#differs = from;
    this.#nextMs = Math.min(this.#nextMs, this.#lastMs + this.#quickMs());
  }

  /**
   * A round begins. @returns whom to ask
   * @param settled false: what others say is not known yet, and is waited for
   */
  begin(peers: readonly NodeId[], settled: boolean, nowMs: number): NodeId | undefined {
    const pauseMs = settled || peers.length === 0 ? this.#pauseMs() : this.#quickMs();
    this.#lastMs = nowMs;
    this.#nextMs = nowMs + this.#jittered(pauseMs);
    const random = peers[peers.length === 0 ? 0 : this.#random.below(peers.length)];
    const to = peers.find((peer) => peer === this.#differs) ?? random;
    this.#differs = undefined;
    return to;
  }

  #pauseMs(): number {
    const doubled = Math.max(0, this.#equal - OFTEN + 1);
    return this.#periodMs * Math.min(RAREST, 2 ** doubled);
  }

  #quickMs(): number {
    return this.#periodMs / 8;
  }

  #jittered(ms: number): number {
    const jitterMs = Math.min(ms, this.#periodMs);
    return ms - jitterMs / 2 + this.#random.below(Math.max(1, Math.floor(jitterMs)));
  }
}
