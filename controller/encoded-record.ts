import { BOUNDS } from "../shared/bounds.ts";
import { OverlayError } from "../shared/errors.ts";
import type { NodeId } from "../shared/ids.ts";
import { changeBetween } from "../shared/state/objects.ts";
import { ControllerRecord } from "./core/record.ts";
import { bytesOfWhole } from "./state-signer.ts";

/** The record as it lies in the store: JSON, whose state must fit what hosts take. */

/** What hosts say of themselves, as far as the controller knows it: those of 0.1.0. Undefined: nobody has said yet. */
export type OldHosts = readonly NodeId[] | undefined;

/** `held` and `bytes`: of both records. @throws FULL: a state that hosts could not take in must not come to be. */
export function checkSize(
  before: ControllerRecord,
  after: ControllerRecord,
  { held, bytes }: { readonly held: number; readonly bytes: number },
  old: OldHosts,
): void {
  const isLarge = ([, object]: readonly [string, Uint8Array]): boolean =>
    object.length > BOUNDS.objectBytes;
  const large = changeBetween(before.state, after.state).put.find(isLarge);
  // One that was made by 0.1.0 goes on, with a new key as well.
  const wasLarge = (key: string): boolean =>
    changeBetween(after.state, before.state)
      .put.filter(isLarge)
      .some(([held]) => held === key);
  if (large !== undefined && !wasLarge(large[0]))
    throw full(
      `${large[0].split("/").slice(0, 2).join(" ")} would have ${large[1].length} bytes, and ${BOUNDS.objectBytes} is the most that hosts take of one`,
    );
  const { length: blocks } = after.state.blocks;
  if (blocks > BOUNDS.blocks && blocks > before.state.blocks.length)
    throw full(`the cluster has ${BOUNDS.blocks} address blocks, the most that it can have`);
  // What the record holds beside the objects is more than what their keys add.
  if (bytes > BOUNDS.objectsBytes && bytes > held)
    throw full(
      `the cluster's state would have ${bytes} bytes, and ${BOUNDS.objectsBytes} is the most that hosts take`,
    );
  checkWhole(before, after, bytes, old);
}

function checkWhole(
  before: ControllerRecord,
  after: ControllerRecord,
  bytes: number,
  old: OldHosts,
): void {
  // The state's own text is shorter than the record's, which is known already.
  if (old?.length === 0 || (bytes * 4) / 3 + 256 <= BOUNDS.stateBytes) return;
  const whole = bytesOfWhole(after.state);
  if (whole <= BOUNDS.stateBytes || whole <= bytesOfWhole(before.state)) return;
  const names = after.state.nodes.flatMap(({ id, name }) => (old?.includes(id) ? [name] : []));
  throw full(
    `the cluster's state would have ${whole} bytes signed whole, and ${BOUNDS.stateBytes} is the most that hosts of 0.1.0 take`,
    old === undefined
      ? "start the agent on the controller's host, which knows whether there are such hosts, and try again"
      : `upgrade overlay-ts on ${names.join(", ")}, or remove networks that are no longer used`,
  );
}

function full(
  message: string,
  next = "give shorter or fewer labels and options, or remove networks that are no longer used",
): OverlayError {
  return new OverlayError({ code: "FULL", message, next });
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
