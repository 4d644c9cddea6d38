import { z } from "zod";
import { fromBase64Url, toBase64Url } from "../base64url.ts";
import { BOUNDS } from "../bounds.ts";
import { decodeCbor, encodeCbor } from "../codec.ts";
import { OverlayError } from "../errors.ts";
import type { Hasher } from "../ports.ts";
import { ObjectEntry } from "./change.ts";
import type { StateHead } from "./head.ts";
import { type HeldState, heldState } from "./held-state.ts";
import { ObjectTree } from "./object-tree.ts";

/** All objects of a state as one text, as it is on disk and beside a joining: `content` of a `SignedState`. */

const Content = z.array(ObjectEntry);

export function encodeContent(objects: ObjectTree): string {
  return toBase64Url(encodeCbor([...objects.entries()]));
}

/** @throws INVALID, TOO_LARGE; UNAUTHENTICATED: the objects are not those of the head. */
export function heldUnder(head: StateHead, content: string, hasher: Hasher): HeldState {
  const parsed = Content.safeParse(decodeCbor(fromBase64Url(content), BOUNDS.objectsBytes));
  if (!parsed.success)
    throw new OverlayError({
      code: "INVALID",
      message: `not objects of a state: ${z.prettifyError(parsed.error)}`,
    });
  const held = heldState(head, ObjectTree.of(parsed.data, hasher));
  if (held !== undefined) return held;
  throw new OverlayError({
    code: "UNAUTHENTICATED",
    message: "the state's objects are not those that the controller's head is over",
    next: "nothing needs to be done: the state before stays in force, and another host is asked",
  });
}
