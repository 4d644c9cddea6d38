import { z } from "zod";
import { fromBase64Url, toBase64Url } from "../base64url.ts";
import { BOUNDS } from "../bounds.ts";
import { decodeCbor, encodeCbor } from "../codec.ts";
import { OverlayError } from "../errors.ts";
import { NetworkId, NodeId } from "../ids.ts";
import type { Hasher } from "../ports.ts";
import type { StateHead } from "./head.ts";
import { type HeldState, heldState } from "./held-state.ts";
import type { NetworkBlocks, StateContent } from "./objects.ts";

/** All objects of a state as one text, for who holds none of them or has missed a change: `content` of a `SignedState`. */

const Bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, "not bytes");

const Content = z.tuple([
  z.array(z.tuple([z.string(), Bytes])),
  z.array(z.tuple([NetworkId, z.array(z.tuple([NodeId, Bytes]))])),
]);

export function encodeContent({ objects, blocks }: StateContent): string {
  const networks = [...blocks].map(([network, hosts]) => [network, [...hosts]] as const);
  return toBase64Url(encodeCbor([[...objects], networks]));
}

/** @throws INVALID, TOO_LARGE; UNAUTHENTICATED: the objects are not those of the head. */
export function heldUnder(head: StateHead, content: string, hasher: Hasher): HeldState {
  const parsed = Content.safeParse(decodeCbor(fromBase64Url(content), BOUNDS.stateBytes));
  if (!parsed.success)
    throw new OverlayError({
      code: "INVALID",
      message: `not objects of a state: ${z.prettifyError(parsed.error)}`,
    });
  const [objects, networks] = parsed.data;
  const blocks = networks.map(([network, hosts]): [NetworkId, NetworkBlocks] => [
    network,
    new Map(hosts),
  ]);
  const held = heldState(head, { objects: new Map(objects), blocks: new Map(blocks) }, hasher);
  if (held !== undefined) return held;
  throw new OverlayError({
    code: "UNAUTHENTICATED",
    message: "the state's objects are not those that the controller's head is over",
    next: "nothing needs to be done: the state before stays in force, and another host is asked",
  });
}
