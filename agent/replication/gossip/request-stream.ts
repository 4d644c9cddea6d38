import { setTimeout as delay } from "node:timers/promises";
import type { Stream } from "@libp2p/interface";
import { type LengthPrefixedStream, lpStream } from "@libp2p/utils";
import { BOUNDS } from "../../../shared/bounds.ts";
import { asFailure, OverlayError } from "../../../shared/errors.ts";
import type { TokenBucket } from "../../../shared/token-bucket.ts";
import { frame, HEADER_BYTES, KIND, unframe } from "./request-frame.ts";

/** At once, on one stream: more is read when one of them has its answer. */
const MAX_CONCURRENT = 32;
/** Between two looks at the pace. */
const PACE_MS = 50;

const limits = {
  maxDataLength: BOUNDS.syncMessageBytes + HEADER_BYTES,
  maxBufferSize: 2 * BOUNDS.syncMessageBytes,
};

interface Waiting {
  readonly resolve: (bytes: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Requests and answers over one long-lived stream, since opening a libp2p stream costs more than a
 * request does: the asking side.
 */
export class RequestStream {
  readonly #stream: Stream;
  readonly #framed: LengthPrefixedStream<Stream>;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;

  /** `ended` is called once, when the stream can no longer be used. */
  constructor(stream: Stream, ended: () => void) {
    this.#stream = stream;
    this.#framed = lpStream(stream, limits);
    void this.#read().finally(ended);
  }

  /** @throws TIMEOUT, or UNREACHABLE when the other side refuses or the stream ends. */
  async request(body: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const id = (this.#lastId = (this.#lastId + 1) >>> 0);
    const answered = new Promise<Uint8Array>((resolve, reject) =>
      this.#waiting.set(id, { resolve, reject }),
    );
    const timer = setTimeout(
      () =>
        this.#waiting
          .get(id)
          ?.reject(new OverlayError({ code: "TIMEOUT", message: `no answer in ${timeoutMs} ms` })),
      timeoutMs,
    );
    try {
      // What the peer does not read in time ends the stream; the wait is then rejected by it.
      this.#framed.write(frame(id, KIND.request, body)).catch((error: unknown) => {
        this.#stream.abort(error as Error);
      });
      return await answered;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  async #read(): Promise<void> {
    let why: unknown = new Error("the stream ended");
    try {
      for (;;) {
        const { id, kind, body } = unframe((await this.#framed.read()).subarray());
        if (kind === KIND.answer) this.#waiting.get(id)?.resolve(body);
        else this.#waiting.get(id)?.reject(unreachable("the request was refused"));
      }
    } catch (error) {
      why = error;
      this.#stream.abort(error as Error);
    }
    for (const { reject } of this.#waiting.values()) reject(unreachable(asFailure(why).message));
  }
}

/**
 * The answering side: until the stream ends. A handler that throws is a refusal. Who asks more than `pace`
 * gives, or reads no answer, waits: nothing is read meanwhile, and Yamux's window holds the peer back.
 */
export async function serveRequests(
  stream: Stream,
  handle: (body: Uint8Array) => Promise<Uint8Array>,
  pace: TokenBucket,
): Promise<void> {
  const framed = lpStream(stream, limits);
  const running = new Set<Promise<void>>();
  const answer = async (id: number, body: Uint8Array): Promise<void> => {
    const [kind, answered] = await handle(body).then(
      (bytes) => [KIND.answer, bytes] as const,
      () => [KIND.refused, new Uint8Array()] as const,
    );
    await framed.write(frame(id, kind, answered));
  };
  try {
    for (;;) {
      const { id, body } = unframe((await framed.read()).subarray());
      while (!pace.take(performance.now())) await withoutReading(stream, () => delay(PACE_MS));
      const answering = answer(id, body)
        .catch((error: unknown) => stream.abort(error as Error))
        .finally(() => running.delete(answering));
      running.add(answering);
      if (running.size >= MAX_CONCURRENT) await withoutReading(stream, () => Promise.race(running));
    }
  } catch (error) {
    stream.abort(error as Error);
  }
}

async function withoutReading(stream: Stream, wait: () => Promise<unknown>): Promise<void> {
  stream.pause();
  await wait();
  stream.resume();
}

function unreachable(message: string): OverlayError {
  return new OverlayError({ code: "UNREACHABLE", message });
}
