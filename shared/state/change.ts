import { z } from "zod";
import { BOUNDS } from "../bounds.ts";
import { decodeCbor, encodeCbor } from "../codec.ts";
import { OverlayError } from "../errors.ts";
import type { StateChange } from "./object-tree.ts";

/** What is handed on with its head in one gossip message; who misses a larger one asks for it. */
export const MOST_CHANGE_BYTES = 48 * 1024;

const Key = z.string().regex(/^[!-~]{1,255}$/, "not a key of the state");
const Bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, "not bytes");

/** Of objects, as they travel. */
export const ObjectEntry = z.tuple([Key, Bytes]);

const Change = z.tuple([z.array(ObjectEntry), z.array(Key)]);

/** As it travels, and what the head's hash of its changes is over. */
export function encodeChange({ put, drop }: StateChange): Uint8Array {
  return encodeCbor([put, drop]);
}

/** @throws INVALID, TOO_LARGE */
export function decodeChange(bytes: Uint8Array): StateChange {
  const parsed = Change.safeParse(decodeCbor(bytes, BOUNDS.syncMessageBytes));
  if (!parsed.success)
    throw new OverlayError({
      code: "INVALID",
      message: `not a change of the state: ${z.prettifyError(parsed.error)}`,
    });
  const [put, drop] = parsed.data;
  // Copied out: what is held must not keep the message that it came in.
  return { put: put.map(([key, object]) => [key, new Uint8Array(object)] as const), drop };
}
