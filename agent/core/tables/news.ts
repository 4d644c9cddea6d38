import { equalBytes } from "../../../shared/codec.ts";
import { compareVersions, type Version } from "../../../shared/documents.ts";

/** Newer than the one held, or of the same version with other content: one of two histories of its owner. */
export function isNews<Held extends { readonly version: Version }>(
  seen: { readonly version: Version; readonly hash: Uint8Array },
  held: Held | undefined,
  hashOf: (held: Held) => Uint8Array,
): boolean {
  if (held === undefined) return true;
  const order = compareVersions(seen.version, held.version);
  return order > 0 || (order === 0 && !equalBytes(seen.hash, hashOf(held)));
}
