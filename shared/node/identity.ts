import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey, peerIdFromString } from "@libp2p/peer-id";
import { OverlayError } from "../errors.ts";
import { NodeId } from "../ids.ts";
import type { KeyPair } from "../trust.ts";

/** A node's identity is an Ed25519 key; its id is the libp2p peer id, which contains the public key. */
export interface Identity extends KeyPair {
  readonly node: NodeId;
}

/** @throws INVALID unless the seed has 32 bytes. */
export async function identityFromSeed(seed: Uint8Array): Promise<Identity> {
  if (seed.length !== 32)
    throw new OverlayError({
      code: "INVALID",
      message: `an identity key of ${seed.length} bytes, not 32`,
      next: "restore identity.key from its backup, or join anew",
    });
  const privateKey = await generateKeyPairFromSeed("Ed25519", seed);
  const node = NodeId.parse(peerIdFromPrivateKey(privateKey).toString());
  return { node, seed, publicKey: privateKey.publicKey.raw };
}

/** The 32 bytes of the Ed25519 key in a node id. @throws INVALID */
export function publicKeyOf(node: string): Uint8Array {
  try {
    const { publicKey } = peerIdFromString(node);
    if (publicKey?.type === "Ed25519") return publicKey.raw;
  } catch (error) {
    throw new OverlayError(
      { code: "INVALID", message: `not a node id: ${node}` },
      { cause: error },
    );
  }
  throw new OverlayError({ code: "INVALID", message: `no Ed25519 key in ${node}` });
}
