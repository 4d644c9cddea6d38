import { fromBase64Url, toBase64Url } from "./base64url.ts";
import { equalBytes } from "./codec.ts";
import { OverlayError } from "./errors.ts";
import { ClusterId } from "./ids.ts";
import type { Hasher } from "./ports.ts";

/**
 * What a joiner is given: which cluster, the hash of its root key (so that nobody else can pose as
 * its controller), and a secret that the controller knows by its hash.
 */
export interface Token {
  readonly cluster: ClusterId;
  /** SHA-256 of the root key. */
  readonly rootHash: Uint8Array;
  readonly id: string;
  readonly secret: Uint8Array;
}

const PREFIX = "ovt1";

export function formatToken({ cluster, rootHash, id, secret }: Token): string {
  return [PREFIX, cluster, toBase64Url(rootHash), id, toBase64Url(secret)].join(".");
}

/** Who answered, or was asked, has another cluster than the token's. */
export function notItsController(cluster: ClusterId): OverlayError {
  return new OverlayError({
    code: "UNAUTHENTICATED",
    message: `what answered is not the controller of cluster ${cluster}`,
    next: "check its address, and that the token is of this cluster",
  });
}

/**
 * `from`: where the text was given, for who gave it. @throws INVALID; the text itself is never repeated: it is a
 * secret.
 */
export function parseToken(text: string, from = "what was given"): Token {
  const [prefix, cluster, rootHash, id, secret, ...rest] = text.trim().split(".");
  const parsed = ClusterId.safeParse(cluster);
  try {
    if (prefix === PREFIX && parsed.success && rest.length === 0) {
      const token = {
        cluster: parsed.data,
        rootHash: fromBase64Url(rootHash ?? ""),
        id: id ?? "",
        secret: fromBase64Url(secret ?? ""),
      };
      if (token.rootHash.length === 32 && token.secret.length === 32) return token;
    }
  } catch {
    // Said below, without the secret.
  }
  throw new OverlayError({
    code: "INVALID",
    message: `${from} is not a token of overlay-ts, or not all of one`,
    next: "copy the whole line that `overlay-ts init` or `overlay-ts token create` printed",
  });
}

/** @throws UNAUTHENTICATED: somebody else answers at the controller's address. */
export function checkRootKey(hasher: Hasher, token: Token, rootKey: Uint8Array): void {
  if (!equalBytes(hasher.sha256(rootKey), token.rootHash))
    throw new OverlayError({
      code: "UNAUTHENTICATED",
      message: "the controller that answered is of another cluster than the token",
      next: "check the address, and that the token is of this cluster",
    });
}
