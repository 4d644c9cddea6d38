import { z } from "zod";
import { BOUNDS } from "../../../shared/bounds.ts";
import { SignedChange, SignedHead, SignedState } from "../../../shared/cluster-state.ts";
import { HostDocument, Sha256, Version } from "../../../shared/documents.ts";
import { NodeId } from "../../../shared/ids.ts";
import { ObjectEntry } from "../../../shared/state/change.ts";
import { BUCKETS } from "../../../shared/state/object-tree.ts";

/** What hosts tell each other on the cluster topic: host documents and the controller's state. */

const v = z.literal(1);
const Revision = z.number().int().min(0);

export const ClusterGossip = z.discriminatedUnion("kind", [
  z.object({ v, kind: z.literal("host"), document: HostDocument }),
  /** Small enough for one message. */
  z.object({ v, kind: z.literal("state"), revision: Revision, state: SignedState }),
  /** To who holds the one before, when all members follow changes. */
  z.object({ v, kind: z.literal("change"), revision: Revision, change: SignedChange }),
  /** Larger: fetched from whoever hands this on. */
  z.object({ v, kind: z.literal("stateIsThere"), revision: Revision }),
]);
export type ClusterGossip = z.infer<typeof ClusterGossip>;

const Bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, "not bytes");
const Bucket = z
  .number()
  .int()
  .min(0)
  .max(BUCKETS - 1);

const HostDigest = z
  .array(z.object({ node: NodeId, version: Version, hash: Sha256 }))
  .max(BOUNDS.nodes);
export type HostDigest = z.infer<typeof HostDigest>;

export const ClusterSyncRequest = z.discriminatedUnion("kind", [
  z.object({
    v,
    kind: z.literal("compareCluster"),
    revision: Revision,
    hash: Sha256,
    /** Of the state's objects: of one revision there may be two. */
    root: z.string().max(64).optional(),
  }),
  /** `revision`: what the asker holds; the state comes only if it is newer. */
  z.object({
    v,
    kind: z.literal("fetchCluster"),
    revision: Revision,
    nodes: z.array(NodeId).max(BOUNDS.nodes),
    /** The asker takes objects under a head, and changes. */
    objects: z.literal(true).optional(),
    /** Of what it holds: changes since are enough. */
    root: z.string().max(64).optional(),
  }),
  /** Of the state of this root, to who said that `state-2` (state/catch-up.ts): the hash of each bucket, then what is in some. */
  z.object({ v, kind: z.literal("stateHashes"), root: z.string().max(64) }),
  z.object({
    v,
    kind: z.literal("stateObjects"),
    root: z.string().max(64),
    buckets: z.array(Bucket).min(1).max(BUCKETS),
  }),
]);
export type ClusterSyncRequest = z.infer<typeof ClusterSyncRequest>;

/** Nobody has told the answering host, since its start, that its state is the controller's newest. */
const unsure = z.literal(true).optional();

export const ClusterSyncAnswer = z.discriminatedUnion("kind", [
  z.object({ v, kind: z.literal("same"), unsure }),
  z.object({
    v,
    kind: z.literal("clusterDigest"),
    revision: Revision,
    digest: HostDigest,
    unsure,
    /** To who told its own. */
    root: z.string().max(64).optional(),
  }),
  z.object({
    v,
    kind: z.literal("cluster"),
    state: SignedState.optional(),
    /** Instead of it, from what the asker holds on, in order. */
    changes: z.array(SignedChange).max(BOUNDS.changesAtOnce).optional(),
    /** Instead of both, to who takes objects: what is there under it is asked for. */
    head: SignedHead.optional(),
    hosts: z.array(HostDocument).max(BOUNDS.nodes),
  }),
  z.object({ v, kind: z.literal("stateHashes"), hashes: Bytes }),
  /** Of some of the buckets that were asked for, and at least one. */
  z.object({
    v,
    kind: z.literal("stateObjects"),
    buckets: z.array(z.tuple([Bucket, z.array(ObjectEntry)])).max(BUCKETS),
  }),
  /** The state of that root is not here, or not any more; this is. */
  z.object({ v, kind: z.literal("stateHead"), head: SignedHead.optional() }),
]);
export type ClusterSyncAnswer = z.infer<typeof ClusterSyncAnswer>;
