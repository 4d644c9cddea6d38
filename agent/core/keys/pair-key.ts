import { assert } from "../../../shared/errors.ts";

/** AES-256 and the four bytes of salt that are the nonce's beginning (RFC 4106, 8.1). */
export const PAIR_KEY_BYTES = 36;

/** One direction's key of one pair of hosts. It prints as nothing: not in JSON, logs, error texts. */
export class PairKey {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    assert(bytes.length === PAIR_KEY_BYTES, "a pair's key has 36 bytes");
    this.#bytes = bytes;
  }

  /** For the kernel and for the one message that hands it over, and nobody else. */
  reveal(): Uint8Array {
    return this.#bytes;
  }
}
