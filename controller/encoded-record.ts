import { BOUNDS } from "../shared/bounds.ts";
import type { ClusterState } from "../shared/cluster-state.ts";
import { OverlayError } from "../shared/errors.ts";
import { ControllerRecord } from "./core/record.ts";

/** The record as it lies in the store: JSON, whose state must fit what hosts take. */

/** @throws FULL: a state that no host could take in must not come to be. */
export function checkSize(before: ControllerRecord, after: ControllerRecord): void {
  const bytes = signedBytes(after.state);
  if (bytes <= BOUNDS.stateBytes || bytes <= signedBytes(before.state)) return;
  throw new OverlayError({
    code: "FULL",
    message: `the cluster's state would have ${bytes} bytes, and ${BOUNDS.stateBytes} is the most that hosts take`,
    next: "give shorter or fewer labels and options, or remove networks that are no longer used",
  });
}

/** Of the state's compact JWS (RFC 7515): base64url of the JSON, and room for head and signature. */
function signedBytes(state: ClusterState): number {
  return Math.ceil((Buffer.byteLength(JSON.stringify(state)) * 4) / 3) + 256;
}

export function encodeRecord(record: ControllerRecord): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(record));
}

/** @throws STORE when it is not a record of this version. */
export function decodeRecord(bytes: Uint8Array): ControllerRecord {
  try {
    return ControllerRecord.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (cause) {
    throw new OverlayError(
      {
        code: "STORE",
        message: "the controller's database holds a record this version cannot read",
        next: "run the version of overlay-ts that wrote it, or a newer one; if it is damaged, restore it from a backup",
      },
      { cause },
    );
  }
}
