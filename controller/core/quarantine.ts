import type { BlockRecord } from "../../shared/cluster-state.ts";
import type { ControllerRecord } from "./record.ts";

/** Longer than hosts need to learn of a removal, unless they are cut off themselves. */
export const QUARANTINE_MS = 600_000;

/**
 * Of a host that was removed: its containers may run on, and who has not heard of it yet sends to them. So
 * nobody else gets their addresses for a while.
 */
export function quarantined(
  record: ControllerRecord,
  blocks: readonly BlockRecord[],
  untilMs: number,
): ControllerRecord {
  if (blocks.length === 0) return record;
  const added = blocks.map((block) => ({ ...block, untilMs }));
  return { ...record, quarantine: [...(record.quarantine ?? []), ...added] };
}

/** Without what is over, and what is of networks that ended; before anything is decided. */
export function released(record: ControllerRecord, wallMs: number): ControllerRecord {
  const { quarantine = [], ...rest } = record;
  const networks = new Set(record.state.networks.map(({ id }) => id));
  const left = quarantine.filter(
    ({ network, untilMs }) => untilMs > wallMs && networks.has(network),
  );
  if (left.length === quarantine.length) return record;
  return left.length === 0 ? rest : { ...rest, quarantine: left };
}
