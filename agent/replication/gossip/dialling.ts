import type { NodeId } from "../../../shared/ids.ts";
import type { Random } from "../../../shared/ports.ts";
import type { MeshPeer } from "./port.ts";

const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 10_000;

export interface DialTimeouts {
  readonly firstMs: number;
  readonly mostMs: number;
}

/** The handshake takes a tenth of a second at rest; on hosts without CPU it takes seconds at both ends. */
export const DEFAULT_DIAL_TIMEOUTS: DialTimeouts = { firstMs: 5000, mostMs: 20_000 };

/** A connection that stood this long was a good one. */
const STABLE_MS = 5000;

interface Target {
  peer: MeshPeer;
  retryMs: number;
  /** Longer after each dial that it ended: a host that is slow would never be connected. */
  timeoutMs: number;
  timer: NodeJS.Timeout | undefined;
  dialling: boolean;
  upSinceMs: number;
}

/** Keeps connections to the wanted peers: dials at once, then with growing, jittered pauses. */
export class Dialling {
  readonly #dial: (peer: MeshPeer, signal: AbortSignal) => Promise<unknown>;
  readonly #connected: (node: NodeId) => boolean;
  readonly #random: Random;
  readonly #timeouts: DialTimeouts;
  readonly #targets = new Map<NodeId, Target>();
  readonly #stopping = new AbortController();

  constructor(
    dial: (peer: MeshPeer, signal: AbortSignal) => Promise<unknown>,
    connected: (node: NodeId) => boolean,
    random: Random,
    timeouts = DEFAULT_DIAL_TIMEOUTS,
  ) {
    this.#dial = dial;
    this.#connected = connected;
    this.#random = random;
    this.#timeouts = timeouts;
  }

  want(peers: readonly MeshPeer[]): void {
    const wanted = new Map(peers.map((peer) => [peer.node, peer]));
    for (const [node, { timer }] of this.#targets)
      if (!wanted.has(node)) {
        clearTimeout(timer);
        this.#targets.delete(node);
      }
    for (const [node, peer] of wanted) {
      const held = this.#targets.get(node);
      if (held !== undefined) held.peer = peer;
      else {
        const target = {
          peer,
          retryMs: FIRST_RETRY_MS,
          timeoutMs: this.#timeouts.firstMs,
          timer: undefined,
          dialling: false,
          upSinceMs: -STABLE_MS,
        };
        this.#targets.set(node, target);
        void this.#try(target);
      }
    }
  }

  /** A connection ended: dialled again at once if it is wanted. */
  lost(node: NodeId): void {
    const target = this.#targets.get(node);
    if (target === undefined) return;
    clearTimeout(target.timer);
    // Refused as soon as it stood: again later, or two that do not want each other would spin.
    if (performance.now() - target.upSinceMs < STABLE_MS) this.#later(target);
    else {
      target.retryMs = FIRST_RETRY_MS;
      void this.#try(target);
    }
  }

  stop(): void {
    this.#stopping.abort();
    for (const { timer } of this.#targets.values()) clearTimeout(timer);
    this.#targets.clear();
  }

  #later(target: Target): void {
    const pause = target.retryMs / 2 + this.#random.below(target.retryMs);
    target.retryMs = Math.min(target.retryMs * 2, MAX_RETRY_MS);
    target.timer = setTimeout(() => void this.#try(target), pause);
  }

  async #try(target: Target): Promise<void> {
    const { signal } = this.#stopping;
    if (target.dialling || signal.aborted || this.#connected(target.peer.node)) return;
    target.dialling = true;
    const timeout = AbortSignal.timeout(target.timeoutMs);
    try {
      await this.#dial(target.peer, AbortSignal.any([signal, timeout]));
      target.upSinceMs = performance.now();
    } catch {
      if (timeout.aborted) target.timeoutMs = Math.min(target.timeoutMs * 2, this.#timeouts.mostMs);
      // Down, not started yet, or behind a firewall: `status` shows who is not connected.
      if (this.#targets.get(target.peer.node) !== target) return;
      this.#later(target);
    } finally {
      target.dialling = false;
    }
  }
}
