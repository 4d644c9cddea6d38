import { z } from "zod";
import { BOUNDS } from "../../../shared/bounds.ts";
import { decodeCbor, encodeCbor } from "../../../shared/codec.ts";
import { NetworkDelta, NetworkDocument, Sha256, Version } from "../../../shared/documents.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { NetworkId, NodeId } from "../../../shared/ids.ts";

/** The version of every message; another one is refused, and counted. */
const v = z.literal(1);
const AnyVersion = z.object({ v: z.number().int().min(1) });

/** On a network's topic, sealed with the network's key. */
export const GossipMessage = z.object({ v, delta: NetworkDelta });
export type GossipMessage = z.infer<typeof GossipMessage>;

const Digest = z
  .array(z.object({ node: NodeId, version: Version, hash: Sha256 }))
  .max(BOUNDS.nodes);
export type Digest = z.infer<typeof Digest>;

export const SyncRequest = z.discriminatedUnion("kind", [
  /** Do we hold the same? `hash` is SHA-256 of the digest, so agreement costs 32 bytes. */
  z.object({ v, kind: z.literal("compare"), network: NetworkId, hash: Sha256 }),
  /** These hosts' documents, whole. */
  z.object({
    v,
    kind: z.literal("fetch"),
    network: NetworkId,
    nodes: z.array(NodeId).max(BOUNDS.nodes),
  }),
]);
export type SyncRequest = z.infer<typeof SyncRequest>;

export const SyncAnswer = z.discriminatedUnion("kind", [
  z.object({ v, kind: z.literal("same") }),
  z.object({ v, kind: z.literal("digest"), digest: Digest }),
  /** As many as fit one message; the rest is fetched in the next round. */
  z.object({
    v,
    kind: z.literal("documents"),
    documents: z.array(NetworkDocument).max(BOUNDS.nodes),
  }),
  /** The asked host has no endpoint on the network (any more). */
  z.object({ v, kind: z.literal("notHere") }),
]);
export type SyncAnswer = z.infer<typeof SyncAnswer>;

export function encodeMessage(message: GossipMessage | SyncRequest | SyncAnswer): Uint8Array {
  return encodeCbor(message);
}

/** Undefined for what is no message of ours, or of another version; `refused` is told which. */
export function tryDecode<T>(
  schema: z.ZodType<T>,
  bytes: Uint8Array,
  maxBytes: number,
  refused: (why: "malformed" | "otherVersion") => void,
): T | undefined {
  try {
    return decodeMessage(schema, bytes, maxBytes);
  } catch (error) {
    if (!(error instanceof OverlayError)) throw error;
    refused(error.code === "UNSUPPORTED" ? "otherVersion" : "malformed");
    return undefined;
  }
}

/**
 * @throws INVALID or TOO_LARGE, UNSUPPORTED for a message of another version; what comes back is true to
 * its type.
 */
export function decodeMessage<T>(schema: z.ZodType<T>, bytes: Uint8Array, maxBytes: number): T {
  const message = decodeCbor(bytes, maxBytes);
  const version = AnyVersion.safeParse(message);
  if (version.success && version.data.v !== 1)
    throw new OverlayError({
      code: "UNSUPPORTED",
      message: `a message of wire version ${version.data.v}, and this host knows 1`,
    });
  const parsed = schema.safeParse(message);
  if (!parsed.success)
    throw new OverlayError(
      { code: "INVALID", message: `not a message of ours: ${z.prettifyError(parsed.error)}` },
      { cause: parsed.error },
    );
  return parsed.data;
}
