import { z } from "zod";
import { decodeCbor, encodeCbor } from "./codec.ts";
import { OverlayError } from "./errors.ts";

/**
 * Major versions of what hosts and controller say to each other that this version speaks, the one it
 * prefers first. What a version of before would misread needs a new one; a new field that it may leave
 * unread does not.
 */
export const WIRE_VERSIONS: readonly number[] = [1];

/** Offered in this order: the first that the other end speaks is spoken. */
export function protocolsOf(
  name: "noise" | "sync" | "control" | "news" | "watch",
  versions: readonly number[] = WIRE_VERSIONS,
): string[] {
  return versions.map((version) => `/overlay-ts/${name}/${version}`);
}

/** Spoken with who shares no version with us, to tell each other which there are: the same for ever. */
export const VERSIONS_PROTOCOL = "/overlay-ts/versions";

/** Of `Versions` as CBOR. */
export const VERSIONS_BYTES = 64;
const Versions = z.array(z.number().int().min(1).max(65535)).min(1).max(8);

export function encodeVersions(versions: readonly number[]): Uint8Array {
  return encodeCbor(versions);
}

/** @throws INVALID, TOO_LARGE */
export function decodeVersions(bytes: Uint8Array): number[] {
  const parsed = Versions.safeParse(decodeCbor(bytes, VERSIONS_BYTES));
  if (parsed.success) return parsed.data;
  throw new OverlayError({ code: "INVALID", message: "not a list of versions" });
}

export function noCommonVersion(
  who: string,
  theirs: readonly number[],
  ours: readonly number[] = WIRE_VERSIONS,
): OverlayError {
  const older = Math.max(...ours) < Math.max(...theirs) ? "this host" : who;
  return new OverlayError({
    code: "UNSUPPORTED",
    message: `${who} speaks wire version ${theirs.join(", ")}, and this host ${ours.join(", ")}`,
    next: `upgrade overlay-ts on ${older}`,
  });
}
