import type { NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { ControllerRecord } from "./record.ts";

/** Longer than hosts need to learn of a removal, unless they are cut off themselves. */
export const QUARANTINE_MS = 600_000;

type Quarantined = NonNullable<ControllerRecord["quarantine"]>[number];

/**
 * Of a host that was removed, or a virtual address that ended: containers may run on, and who has not heard of it yet sends
 * to them. So nobody else gets their addresses for a while.
 */
export function quarantined(
  record: ControllerRecord,
  blocks: readonly Omit<Quarantined, "untilMs">[],
  untilMs: number,
): ControllerRecord {
  if (blocks.length === 0) return record;
  const added = blocks.map((block) => ({ ...block, untilMs }));
  return { ...record, quarantine: [...(record.quarantine ?? []), ...added] };
}

/** An address that its host has left. What it takes back itself is in nobody's way. */
export function vacated(
  record: ControllerRecord,
  node: NodeId,
  ip: Ip,
  untilMs: number,
): ControllerRecord {
  const others = (record.formerAddresses ?? []).filter((held) => held.ip !== ip);
  return { ...record, formerAddresses: [...others, { node, ip, untilMs }] };
}

/**
 * Without what is over, and what is of networks that ended; before anything is decided. An end that is further
 * away than any can be was set by a clock that was ahead: it is counted from now.
 */
export function released(record: ControllerRecord, wallMs: number): ControllerRecord {
  const { quarantine = [], formerAddresses = [], ...rest } = record;
  const networks = new Set(record.state.networks.map(({ id }) => id));
  const blocks = current(quarantine, wallMs).filter(({ network }) => networks.has(network));
  const addresses = current(formerAddresses, wallMs);
  if (isSame(blocks, quarantine) && isSame(addresses, formerAddresses)) return record;
  return {
    ...rest,
    ...(blocks.length === 0 ? {} : { quarantine: blocks }),
    ...(addresses.length === 0 ? {} : { formerAddresses: addresses }),
  };
}

/** What is as it was is the same object. */
function current<T extends { readonly untilMs: number }>(held: readonly T[], wallMs: number): T[] {
  const latestMs = wallMs + QUARANTINE_MS;
  return held
    .filter(({ untilMs }) => untilMs > wallMs)
    .map((one) => (one.untilMs > latestMs ? { ...one, untilMs: latestMs } : one));
}

function isSame<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((one, i) => one === b[i]);
}
