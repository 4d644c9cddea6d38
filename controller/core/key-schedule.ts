import { KeySchedule } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { rotateKeys } from "./networks.ts";
import { type Context, type ControllerRecord, type Transition, withState } from "./record.ts";
import { isOfTheFuture } from "./wall-clock.ts";

export type KeyScheduleChanges = {
  readonly [name in keyof KeySchedule]?: number | undefined;
};

/** What is not given stays. @throws INVALID, with the bound that was passed. */
export function changeKeySchedule(
  record: ControllerRecord,
  changes: KeyScheduleChanges,
): Transition<KeySchedule> {
  const { settings } = record.state;
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  if (given.length === 0) return { record, result: settings.keySchedule };
  const parsed = KeySchedule.safeParse({ ...settings.keySchedule, ...Object.fromEntries(given) });
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    throw new OverlayError({
      code: "INVALID",
      message: `${path.join(".")}: ${message}`,
      next: "see `overlay-ts key schedule --help`",
    });
  }
  const keySchedule = parsed.data;
  return {
    record: withState(record, { settings: { ...settings, keySchedule } }),
    result: keySchedule,
  };
}

/**
 * New gossip keys for the networks whose key is as old as the schedule allows, or was made by a clock that was
 * ahead: nobody knows its age, and counting from then it would stay for as much longer.
 */
export function rotateDueKeys(record: ControllerRecord, context: Context): ControllerRecord {
  const { networks, settings } = record.state;
  const due = networks.filter(({ keyedAtMs, createdAtMs }) => {
    const madeAtMs = keyedAtMs ?? createdAtMs;
    const { wallMs } = context;
    return wallMs - madeAtMs >= settings.keySchedule.gossipMs || isOfTheFuture(madeAtMs, wallMs);
  });
  return due.length === 0
    ? record
    : rotateKeys(
        record,
        due.map(({ id }) => id),
        context,
      );
}
