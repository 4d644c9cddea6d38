import {
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from "node:crypto";
import { OverlayError } from "../../../shared/errors.ts";

/**
 * An answer that only who asked can open, and only while it waits: both sides' key pairs are forgotten a
 * second after they were made (X25519, RFC 7748; HKDF, RFC 5869; ChaCha20-Poly1305, RFC 8439). Who stores
 * what went over the wire, and later has the hosts' identity keys, or the keys of the connection, has
 * nothing. Who answers is for the connection to prove. Node's own: tweetnacl would take seconds for the
 * keys of a thousand hosts.
 */

const PUBLIC_KEY_BYTES = 32;
/** Random with each answer: no two are sealed with one key. */
const SALT_BYTES = 32;
const TAG_BYTES = 16;
const LABEL = "overlay-ts/answer/1";
const CIPHER = "chacha20-poly1305";
/** A key is used once. */
const NONCE = new Uint8Array(12);
// RFC 8410: what stands before the 32 raw bytes of an X25519 key in SubjectPublicKeyInfo.
const SPKI_PREFIX = Buffer.from("302a300506032b656e032100", "hex");
const FORGOTTEN_MS = 1000;

interface KeyPair {
  readonly publicKey: Uint8Array;
  readonly privateKey: KeyObject;
}

let newest: KeyPair | undefined;

/** To make one costs as much as to use it: those of a second share theirs. */
function keyPair(): KeyPair {
  if (newest === undefined) {
    const { publicKey, privateKey } = generateKeyPairSync("x25519");
    const raw = publicKey.export({ format: "der", type: "spki" }).subarray(SPKI_PREFIX.length);
    newest = { publicKey: raw, privateKey };
    setTimeout(() => (newest = undefined), FORGOTTEN_MS).unref();
  }
  return newest;
}

/** The asking side: of one question. */
export class AnswerKey {
  /** 32 bytes, to be sent with the question. */
  readonly publicKey: Uint8Array;
  readonly #own: KeyPair;

  constructor() {
    this.#own = keyPair();
    this.publicKey = this.#own.publicKey;
  }

  /** @throws UNAUTHENTICATED when it was not sealed to this key, or was changed. */
  open(sealed: Uint8Array): Uint8Array {
    const saltAt = PUBLIC_KEY_BYTES;
    const tagAt = saltAt + SALT_BYTES;
    const bodyAt = tagAt + TAG_BYTES;
    const theirs = sealed.subarray(0, saltAt);
    try {
      const key = agreed(this.#own, theirs, sealed.subarray(saltAt, tagAt));
      const cipher = createDecipheriv(CIPHER, key, NONCE, { authTagLength: TAG_BYTES });
      cipher.setAuthTag(sealed.subarray(tagAt, bodyAt));
      return Buffer.concat([cipher.update(sealed.subarray(bodyAt)), cipher.final()]);
    } catch (cause) {
      const message = "an answer that was sealed to another question, or changed on its way";
      throw new OverlayError({ code: "UNAUTHENTICATED", message }, { cause });
    }
  }
}

/** @throws INVALID when `asker` is no public key. */
export function sealAnswer(asker: Uint8Array, answer: Uint8Array): Uint8Array {
  const own = keyPair();
  const salt = randomBytes(SALT_BYTES);
  let key: Uint8Array;
  try {
    key = agreed(own, asker, salt);
  } catch (cause) {
    throw new OverlayError({ code: "INVALID", message: "not an X25519 public key" }, { cause });
  }
  const cipher = createCipheriv(CIPHER, key, NONCE, { authTagLength: TAG_BYTES });
  const body = Buffer.concat([cipher.update(answer), cipher.final()]);
  return Buffer.concat([own.publicKey, salt, cipher.getAuthTag(), body]);
}

function agreed(own: KeyPair, theirs: Uint8Array, salt: Uint8Array): Uint8Array {
  const der = Buffer.concat([SPKI_PREFIX, theirs]);
  const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
  // All zeros, of a point of small order, is refused by OpenSSL.
  const secret = diffieHellman({ privateKey: own.privateKey, publicKey });
  // In one order for both sides.
  const ends = [own.publicKey, theirs].toSorted((a, b) => Buffer.compare(a, b));
  const info = Buffer.concat([Buffer.from(LABEL), ...ends]);
  return new Uint8Array(hkdfSync("sha256", secret, salt, info, 32));
}
