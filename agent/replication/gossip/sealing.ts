import nacl from "tweetnacl";
import type { Random } from "../../../shared/ports.ts";

/** A topic's payload: 24 bytes of random nonce, then XSalsa20-Poly1305 (tweetnacl secretbox). */
export class Sealing {
  readonly #random: Random;
  #key: Uint8Array;
  #previous: Uint8Array | undefined;

  constructor(key: Uint8Array, random: Random) {
    this.#key = key;
    this.#random = random;
  }

  /** The old key goes on opening what was sealed before others heard of the new one. */
  rotate(key: Uint8Array): void {
    if (nacl.verify(key, this.#key)) return;
    this.#previous = this.#key;
    this.#key = key;
  }

  seal(message: Uint8Array): Uint8Array {
    const nonce = this.#random.bytes(nacl.secretbox.nonceLength);
    const box = nacl.secretbox(message, nonce, this.#key);
    const sealed = new Uint8Array(nonce.length + box.length);
    sealed.set(nonce);
    sealed.set(box, nonce.length);
    return sealed;
  }

  /** Undefined: another key, or not what was sealed. */
  open(sealed: Uint8Array): Uint8Array | undefined {
    const { nonceLength } = nacl.secretbox;
    if (sealed.length < nonceLength) return undefined;
    const nonce = sealed.subarray(0, nonceLength);
    for (const key of [this.#key, this.#previous]) {
      const opened = key && nacl.secretbox.open(sealed.subarray(nonceLength), nonce, key);
      if (opened) return opened;
    }
    return undefined;
  }
}
