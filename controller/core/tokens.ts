import { BOUNDS } from "../../shared/bounds.ts";
import { hex } from "../../shared/codec.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { Hasher } from "../../shared/ports.ts";
import type { Context, ControllerRecord, TokenRecord, Transition } from "./record.ts";
import { duration } from "../../shared/text.ts";
import { isOfTheFuture } from "./wall-clock.ts";

export const DEFAULT_TOKEN_TTL_MS = 24 * 3600 * 1000;
export const DEFAULT_TOKEN_USES = 10;
/** A sum with the time of day stays a whole number, and a date. */
const MAX_TOKEN_TTL_MS = 10 * 365 * 24 * 3600 * 1000;
const MAX_TOKEN_USES = 100_000;

export interface TokenRequest {
  readonly ttlMs: number;
  readonly uses: number;
  readonly networks?: readonly string[];
}

/** `id` and `secret` go into the token (shared with the joiner); only the secret's hash is kept. */
export function issueToken(
  record: ControllerRecord,
  { ttlMs, uses, networks }: TokenRequest,
  hasher: Hasher,
  { wallMs, random }: Context,
): Transition<{ id: string; secret: Uint8Array; expiresAtMs: number }> {
  if (!(ttlMs > 0 && ttlMs <= MAX_TOKEN_TTL_MS && uses > 0 && uses <= MAX_TOKEN_USES))
    throw new OverlayError({
      code: "INVALID",
      message: `a token holds for up to ten years and ${MAX_TOKEN_USES} hosts, and for more than none`,
      next: "give --ttl and --uses in these bounds, or leave them away",
    });
  const secret = random.bytes(32);
  const token: TokenRecord = {
    id: hex(random.bytes(6)),
    secretHash: hex(hasher.sha256(secret)),
    createdAtMs: wallMs,
    expiresAtMs: wallMs + ttlMs,
    usesLeft: uses,
    ...(networks === undefined ? {} : { networks: [...networks] }),
  };
  const alive = record.tokens.filter(
    (held) =>
      held.expiresAtMs > wallMs - DEFAULT_TOKEN_TTL_MS && !isOfTheFuture(held.createdAtMs, wallMs),
  );
  if (alive.length >= BOUNDS.tokens)
    throw new OverlayError({
      code: "FULL",
      message: `the cluster has ${BOUNDS.tokens} tokens that hold, the most it can have`,
      next: "use one of them, or wait until they expire",
    });
  return {
    record: { ...record, tokens: [...alive, token] },
    result: { id: token.id, secret, expiresAtMs: token.expiresAtMs },
  };
}

/**
 * The token, if it holds now. @throws UNAUTHENTICATED: unknown, expired or not yet made, each with its own
 * sentence. Hashes are compared, so the time it takes says nothing of the secret.
 */
export function checkToken(
  record: ControllerRecord,
  shown: { id: string; secret: Uint8Array },
  hasher: Hasher,
  wallMs: number,
): TokenRecord {
  const token = record.tokens.find(({ id }) => id === shown.id);
  if (token === undefined || token.secretHash !== hex(hasher.sha256(shown.secret)))
    throw refused("the token is not one of this controller");
  if (isOfTheFuture(token.createdAtMs, wallMs))
    throw refused("the token was made while the controller's clock was ahead");
  if (token.expiresAtMs <= wallMs)
    throw refused(`the token expired ${duration(wallMs - token.expiresAtMs)} ago`);
  return token;
}

/** One use less. @throws UNAUTHENTICATED when none is left. */
export function useToken(record: ControllerRecord, token: TokenRecord): ControllerRecord {
  if (token.usesLeft === 0) throw refused("the token is used up");
  const tokens = record.tokens.map((held) =>
    held.id === token.id ? { ...held, usesLeft: held.usesLeft - 1 } : held,
  );
  return { ...record, tokens };
}

function refused(message: string): OverlayError {
  return new OverlayError({
    code: "UNAUTHENTICATED",
    message,
    next: "make another with `overlay-ts token create` on the controller's host",
  });
}
