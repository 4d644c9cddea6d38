import { z } from "zod";
import { fromBase64Url, toBase64Url } from "../base64url.ts";
import { ClusterId } from "../ids.ts";
import type { Hasher } from "../ports.ts";
import type { ObjectTree } from "./object-tree.ts";

/** SHA-256 as base64url (RFC 4648, section 5) without padding. */
const Hash = z.string().regex(/^[A-Za-z0-9_-]{43}$/, "not a SHA-256 as base64url");

/** One content of the state: two with the same are the same. */
export const StatePoint = z.object({ revision: z.number().int().min(1), root: Hash });
export type StatePoint = z.infer<typeof StatePoint>;

/** All that a controller signs of a revision: the objects follow from its root. */
export const StateHead = StatePoint.extend({
  format: z.literal(2),
  cluster: ClusterId,
  /** What the change beside it starts from, and its hash: one that is not this head's is refused unread. */
  base: StatePoint.optional(),
  changes: Hash.optional(),
});
export type StateHead = z.infer<typeof StateHead>;

/** @param from absent: a head without a change, which is caught up with. */
export function headOf(
  { cluster, revision }: Pick<StateHead, "cluster" | "revision">,
  objects: ObjectTree,
  from?: { readonly base: StatePoint; readonly change: Uint8Array; readonly hasher: Hasher },
): StateHead {
  const head = { format: 2, cluster, revision, root: rootText(objects) } as const;
  if (from === undefined) return head;
  const { base, change, hasher } = from;
  return {
    ...head,
    base: { revision: base.revision, root: base.root },
    changes: changesHash(change, hasher),
  };
}

/** What a compact JWS (RFC 7515) says that was checked before. @throws when it is none of a head */
export function headIn(jws: string): StateHead {
  const payload = fromBase64Url(jws.split(".")[1] ?? "");
  return StateHead.parse(JSON.parse(new TextDecoder().decode(payload)));
}

export function rootText(objects: ObjectTree): string {
  return toBase64Url(objects.root());
}

/** Of a change as it travels. */
export function changesHash(change: Uint8Array, hasher: Hasher): string {
  return toBase64Url(hasher.sha256(change));
}

/**
 * Which wins, everywhere the same: the higher revision; of one revision the greater root, as with documents. Above 0: `a`
 * does. Two of one revision with different roots are a fork (`isFork`): two controllers, or one from an old backup.
 */
export function compareHeads(a: StatePoint, b: StatePoint): number {
  if (a.revision !== b.revision) return a.revision - b.revision;
  return a.root === b.root ? 0 : a.root > b.root ? 1 : -1;
}

export function isFork(a: StatePoint, b: StatePoint): boolean {
  return a.revision === b.revision && a.root !== b.root;
}
