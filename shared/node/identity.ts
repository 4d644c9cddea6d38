import { createPublicKey } from "node:crypto";
import { fromBase64Url } from "../base64url.ts";
import { OverlayError } from "../errors.ts";
import type { NodeId } from "../ids.ts";
import { nodeIdOf } from "../node-id.ts";
import type { KeyPair } from "../trust.ts";
import { ed25519PrivateKey } from "./system.ts";

/** A node's identity is an Ed25519 key (RFC 8032), made from 32 secret bytes. */
export interface Identity extends KeyPair {
  readonly node: NodeId;
}

/** @throws INVALID unless the seed has 32 bytes. */
export function identityFromSeed(seed: Uint8Array): Identity {
  if (seed.length !== 32)
    throw new OverlayError({
      code: "INVALID",
      message: `an identity key of ${seed.length} bytes, not 32`,
      next: "restore identity.key from its backup, or join anew",
    });
  const { x } = createPublicKey(ed25519PrivateKey(seed)).export({ format: "jwk" });
  const publicKey = fromBase64Url(x ?? "");
  return { node: nodeIdOf(publicKey), seed, publicKey };
}
