import { z } from "zod";
import { BOUNDS } from "../bounds.ts";
import { decodeCbor, encodeCbor } from "../codec.ts";
import { OverlayError } from "../errors.ts";
import { NetworkId, NodeId } from "../ids.ts";
import type { Hasher } from "../ports.ts";
import { type BlocksDelta, blocksDeltas, deltaBetween, type StateDelta } from "./delta.ts";
import type { StateHead } from "./head.ts";
import { blocksOf, type HeldState, take, takeBlocks, type Taken } from "./held-state.ts";
import type { StateContent } from "./objects.ts";

/** All that differs from one revision to the next, as it travels beside the signed head. */
export interface StateChange {
  readonly objects: StateDelta;
  /** Of each network in `objects.blocks`. */
  readonly blocks: readonly BlocksDelta[];
}

/** Of what is handed on with its head in one gossip message; who misses a larger one asks for it. */
export const MOST_CHANGE_BYTES = 48 * 1024;

const Key = z.string().regex(/^[!-~]{1,255}$/, "not a key of the state");
const Bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, "not bytes");
const Leaf = Bytes.refine((bytes) => bytes.length === 32, "not 32 bytes");

const Change = z.object({
  put: z.array(z.tuple([Key, Bytes])),
  drop: z.array(Key),
  blocks: z.array(
    z.object({
      network: NetworkId,
      leaf: Leaf.nullable(),
      put: z.array(z.tuple([NodeId, Bytes])),
      drop: z.array(NodeId),
    }),
  ),
});

export function changeBetween(
  before: StateContent,
  after: StateContent,
  hasher: Hasher,
): StateChange {
  return {
    objects: deltaBetween(before, after, hasher),
    blocks: blocksDeltas(before, after),
  };
}

export function encodeChange({ objects, blocks }: StateChange): Uint8Array {
  const leaves = new Map(objects.blocks);
  return encodeCbor({
    put: objects.put,
    drop: objects.drop,
    blocks: blocks.map((change) => ({ ...change, leaf: leaves.get(change.network) ?? null })),
  });
}

/** @throws INVALID, TOO_LARGE */
export function decodeChange(bytes: Uint8Array): StateChange {
  const parsed = Change.safeParse(decodeCbor(bytes, BOUNDS.syncMessageBytes));
  if (!parsed.success)
    throw new OverlayError({
      code: "INVALID",
      message: `not a change of the state: ${z.prettifyError(parsed.error)}`,
    });
  const { put, drop, blocks } = parsed.data;
  return {
    objects: { put, drop, blocks: blocks.map(({ network, leaf }) => [network, leaf] as const) },
    blocks: blocks.map(({ network, put, drop }) => ({ network, put, drop })),
  };
}

/**
 * `take`, and the blocks of all networks with it: those that the head does not hold are refused as the objects are, and nothing
 * shows.
 */
export function takeChange(
  held: HeldState,
  head: StateHead,
  { objects, blocks }: StateChange,
  hasher: Hasher,
): Taken {
  const taken = take(held, head, objects, hasher);
  if (taken.kind !== "taken") return taken;
  let after = taken.held;
  for (const change of blocks) {
    const next = takeBlocks(after, change, hasher);
    if (next === undefined) return { kind: "refused", why: "blocks" };
    after = next;
  }
  const awaited = objects.blocks.some(([network]) => blocksOf(after, network) === "awaited");
  return awaited ? { kind: "refused", why: "blocks" } : { kind: "taken", held: after };
}
