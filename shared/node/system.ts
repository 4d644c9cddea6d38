import {
  createHash,
  createPrivateKey,
  createPublicKey,
  hash,
  randomBytes,
  randomInt,
  sign,
  verify,
  type KeyObject,
} from "node:crypto";
import { publicKeyOf } from "../node-id.ts";
import type { Clock, Hasher, Random, Signer, Timers, Verifier } from "../ports.ts";

/** The machine's clock, timers, randomness and Ed25519 (RFC 8032), behind the ports of the pure core. */

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
};

export const systemTimers: Timers = {
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

export const systemRandom: Random = {
  below: (bound) => randomInt(bound),
  bytes: (length) => new Uint8Array(randomBytes(length)),
};

export const sha256: Hasher = {
  sha256: (...parts) => {
    const [first] = parts;
    // In one call: of some hundred bytes it costs a fraction of what a hash object does.
    if (first !== undefined && parts.length === 1)
      return new Uint8Array(hash("sha256", first, "buffer"));
    const made = createHash("sha256");
    for (const part of parts) made.update(part);
    return new Uint8Array(made.digest());
  },
};

// RFC 8410: what stands before the 32 raw bytes in PKCS #8 and SubjectPublicKeyInfo.
const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

export function ed25519PrivateKey(seed: Uint8Array): KeyObject {
  const der = Buffer.concat([PKCS8_PREFIX, seed]);
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
}

export function ed25519Signer(seed: Uint8Array): Signer {
  const key = ed25519PrivateKey(seed);
  return { sign: (message) => new Uint8Array(sign(null, message, key)) };
}

/** The key is in the node id; parsed keys are kept, at most `limit`. */
export function ed25519Verifier(limit = 2000): Verifier {
  const keys = new Map<string, KeyObject>();
  return {
    verify(node, message, signature) {
      try {
        let key = keys.get(node);
        if (key === undefined) {
          const raw = publicKeyOf(node);
          key = createPublicKey({
            key: Buffer.concat([SPKI_PREFIX, raw]),
            format: "der",
            type: "spki",
          });
          if (keys.size >= limit) keys.clear();
          keys.set(node, key);
        }
        return verify(null, message, key, signature);
      } catch {
        // A malformed key or signature is somebody else's, and not valid.
        return false;
      }
    },
  };
}
