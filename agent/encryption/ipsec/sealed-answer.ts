import {
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
} from "node:crypto";
import { OverlayError } from "../../../shared/errors.ts";

/**
 * An answer that only who asked can open, and only while it waits: both sides make a key pair for this
 * one answer and forget it (X25519, RFC 7748; HKDF, RFC 5869; ChaCha20-Poly1305, RFC 8439). Who stores
 * what went over the wire, and later has the hosts' identity keys, or the keys of the connection, has
 * nothing. Who answers is for the connection to prove. Node's own: a thousand a second, where tweetnacl
 * would take seconds.
 */

const PUBLIC_KEY_BYTES = 32;
const TAG_BYTES = 16;
const LABEL = "overlay-ts/answer/1";
const CIPHER = "chacha20-poly1305";
/** A key is used once. */
const NONCE = new Uint8Array(12);
// RFC 8410: what stands before the 32 raw bytes of an X25519 key in SubjectPublicKeyInfo.
const SPKI_PREFIX = Buffer.from("302a300506032b656e032100", "hex");

/** The asking side: of one question. */
export class AnswerKey {
  /** 32 bytes, to be sent with the question. */
  readonly publicKey: Uint8Array;
  readonly #privateKey: KeyObject;

  constructor() {
    const { publicKey, privateKey } = generateKeyPairSync("x25519");
    this.publicKey = rawOf(publicKey);
    this.#privateKey = privateKey;
  }

  /** @throws UNAUTHENTICATED when it was not sealed to this key, or was changed. */
  open(sealed: Uint8Array): Uint8Array {
    const bodyAt = PUBLIC_KEY_BYTES + TAG_BYTES;
    const theirs = sealed.subarray(0, PUBLIC_KEY_BYTES);
    try {
      const key = agreed(this.#privateKey, theirs, this.publicKey, theirs);
      const cipher = createDecipheriv(CIPHER, key, NONCE, { authTagLength: TAG_BYTES });
      cipher.setAuthTag(sealed.subarray(PUBLIC_KEY_BYTES, bodyAt));
      return Buffer.concat([cipher.update(sealed.subarray(bodyAt)), cipher.final()]);
    } catch (cause) {
      const message = "an answer that was sealed to another question, or changed on its way";
      throw new OverlayError({ code: "UNAUTHENTICATED", message }, { cause });
    }
  }
}

/** @throws INVALID when `asker` is no public key. */
export function sealAnswer(asker: Uint8Array, answer: Uint8Array): Uint8Array {
  const { publicKey, privateKey } = generateKeyPairSync("x25519");
  const own = rawOf(publicKey);
  let key: Uint8Array;
  try {
    key = agreed(privateKey, asker, asker, own);
  } catch (cause) {
    throw new OverlayError({ code: "INVALID", message: "not an X25519 public key" }, { cause });
  }
  const cipher = createCipheriv(CIPHER, key, NONCE, { authTagLength: TAG_BYTES });
  const body = Buffer.concat([cipher.update(answer), cipher.final()]);
  return Buffer.concat([own, cipher.getAuthTag(), body]);
}

function agreed(
  own: KeyObject,
  theirs: Uint8Array,
  asker: Uint8Array,
  answerer: Uint8Array,
): Uint8Array {
  const der = Buffer.concat([SPKI_PREFIX, theirs]);
  const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
  // All zeros, of a point of small order, is refused by OpenSSL.
  const secret = diffieHellman({ privateKey: own, publicKey });
  const info = Buffer.concat([Buffer.from(LABEL), asker, answerer]);
  return new Uint8Array(hkdfSync("sha256", secret, new Uint8Array(), info, 32));
}

function rawOf(publicKey: KeyObject): Uint8Array {
  return publicKey.export({ format: "der", type: "spki" }).subarray(SPKI_PREFIX.length);
}
