import nacl from "tweetnacl";
import { OverlayError } from "./errors.ts";
import type { Hasher, Random } from "./ports.ts";

/** Anonymous boxes to a node (X25519, XSalsa20-Poly1305): ephemeral public key, nonce, box. */

const LABEL = new TextEncoder().encode("overlay-ts/seal/1");

/** A node's key pair for boxes, from its identity seed: one secret to keep and to back up. */
export function sealKeyPair(
  hasher: Hasher,
  identitySeed: Uint8Array,
): { publicKey: Uint8Array; secretKey: Uint8Array } {
  return nacl.box.keyPair.fromSecretKey(hasher.sha256(LABEL, identitySeed));
}

export function sealTo(publicKey: Uint8Array, message: Uint8Array, random: Random): Uint8Array {
  const ephemeral = nacl.box.keyPair.fromSecretKey(random.bytes(nacl.box.secretKeyLength));
  const nonce = random.bytes(nacl.box.nonceLength);
  const box = nacl.box(message, nonce, publicKey, ephemeral.secretKey);
  return Uint8Array.from([...ephemeral.publicKey, ...nonce, ...box]);
}

/** @throws UNAUTHENTICATED when it was not sealed to this key, or was changed. */
export function openSealed(secretKey: Uint8Array, sealed: Uint8Array): Uint8Array {
  const nonceAt = nacl.box.publicKeyLength;
  const boxAt = nonceAt + nacl.box.nonceLength;
  const message =
    sealed.length <= boxAt
      ? null
      : nacl.box.open(
          sealed.subarray(boxAt),
          sealed.subarray(nonceAt, boxAt),
          sealed.subarray(0, nonceAt),
          secretKey,
        );
  if (message === null)
    throw new OverlayError({
      code: "UNAUTHENTICATED",
      message: "a key that was sealed to another host, or changed on its way",
    });
  return message;
}
