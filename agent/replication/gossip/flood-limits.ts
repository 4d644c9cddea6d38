import type { NodeId } from "../../../shared/ids.ts";
import { TokenBucket } from "../../../shared/token-bucket.ts";

export interface FloodLimitsOptions {
  /** Of one peer, in units of work; see `gossipWork`. What is above is dropped: anti-entropy repairs. */
  readonly perSecond: number;
  readonly burst: number;
  /** Dropping costs too: who goes on above this is cut off. */
  readonly toleratedPerSecond: number;
  readonly toleratedBurst: number;
  readonly cutMs: number;
}

/**
 * An honest peer hands on what its neighbours may send it, each of them `perSecond` at most: with D 4 and
 * what is dialled beside it, far below what is tolerated. Nobody makes an honest host be cut off by sending
 * much through it.
 */
export const GOSSIP_LIMITS: FloodLimitsOptions = {
  perSecond: 400,
  burst: 2000,
  toleratedPerSecond: 10_000,
  toleratedBurst: 50_000,
  cutMs: 60_000,
};

interface Peer {
  readonly work: TokenBucket;
  readonly tolerated: TokenBucket;
  cutUntilMs: number;
}

/** A message costs its handling, and its size. */
const BYTES_A_UNIT = 4096;

export function gossipWork(sizes: readonly number[]): number {
  return sizes.reduce((sum, bytes) => sum + 1 + Math.floor(bytes / BYTES_A_UNIT), 1);
}

/** What one member may cost another. Kept by host: a new connection is no new allowance. */
export class FloodLimits {
  readonly #options: FloodLimitsOptions;
  readonly #peers = new Map<NodeId, Peer>();

  constructor(options: FloodLimitsOptions) {
    this.#options = options;
  }

  take(node: NodeId, work: number, nowMs: number): "pass" | "drop" | "cut" {
    const peer = this.#peer(node, nowMs);
    if (peer.work.take(nowMs, work)) return "pass";
    if (peer.tolerated.take(nowMs, work)) return "drop";
    peer.cutUntilMs = nowMs + this.#options.cutMs;
    return "cut";
  }

  isCut(node: NodeId, nowMs: number): boolean {
    return (this.#peers.get(node)?.cutUntilMs ?? -Infinity) > nowMs;
  }

  #peer(node: NodeId, nowMs: number): Peer {
    const held = this.#peers.get(node);
    if (held !== undefined) return held;
    const { perSecond, burst, toleratedPerSecond, toleratedBurst } = this.#options;
    const peer = {
      work: new TokenBucket(perSecond, burst, nowMs),
      tolerated: new TokenBucket(toleratedPerSecond, toleratedBurst, nowMs),
      cutUntilMs: -Infinity,
    };
    this.#peers.set(node, peer);
    return peer;
  }
}
