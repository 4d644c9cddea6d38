import { OverlayError } from "../../../shared/errors.ts";
import type { NodeId } from "../../../shared/ids.ts";

/** Two round trips and a negotiation at both ends: nothing at rest, seconds on hosts without CPU. */
const OPEN_TIMEOUT_MS = 20_000;

/** One that stands, until `ended` was called. */
export interface Asking {
  request(body: Uint8Array, timeoutMs: number): Promise<Uint8Array>;
}

/** @throws UNREACHABLE: not connected, or refused there. */
export type OpenStream = (to: NodeId, signal: AbortSignal, ended: () => void) => Promise<Asking>;

/**
 * One stream a peer, opened with the first question and again after it ended. The opening has its own time: were it that
 * of the question that began it, hosts that are slower than a question may wait would begin it again for ever.
 */
export class RequestStreams {
  readonly #open: OpenStream;
  readonly #openTimeoutMs: number;
  readonly #streams = new Map<NodeId, Promise<Asking>>();

  constructor(open: OpenStream, openTimeoutMs = OPEN_TIMEOUT_MS) {
    this.#open = open;
    this.#openTimeoutMs = openTimeoutMs;
  }

  /** @throws TIMEOUT, or UNREACHABLE when the other side refuses or the stream ends. */
  async request(to: NodeId, body: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const untilMs = performance.now() + timeoutMs;
    const stream = await inTime(this.#stream(to), timeoutMs);
    return stream.request(body, Math.max(1, untilMs - performance.now()));
  }

  #stream(to: NodeId): Promise<Asking> {
    const held = this.#streams.get(to);
    if (held !== undefined) return held;
    const ended = (): void => {
      if (this.#streams.get(to) === made) this.#streams.delete(to);
    };
    const signal = AbortSignal.timeout(this.#openTimeoutMs);
    // Also of who does not look at its signal.
    const made = inTime(this.#open(to, signal, ended), this.#openTimeoutMs);
    this.#streams.set(to, made);
    made.catch(ended);
    return made;
  }
}

async function inTime<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const message = `no answer in ${timeoutMs} ms`;
    late.reject(new OverlayError({ code: "TIMEOUT", message }));
  }, timeoutMs);
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
