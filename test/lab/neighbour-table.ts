import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * A kernel has one table of neighbours for all its namespaces, of 1,024 unless it is told otherwise: the hosts of a lab
 * fill it where as many machines would not, and from the 34th on packets to some have no way any more.
 */
const LIMITS = [2, 3].map((k) => `/proc/sys/net/ipv4/neigh/default/gc_thresh${k}`);
/** Of the lab: what the limits were. */
const BEFORE = "neighbours.json";

/** Each host has each other as a neighbour on the switch, in its proof network, and perhaps in two tunnels. */
export function roomForNeighbours(directory: string, hosts: number): void {
  const before = LIMITS.map((file) => Number(readFileSync(file, "utf8")));
  const needed = 4 * hosts ** 2;
  if (before.every((limit) => limit >= needed)) return;
  writeFileSync(join(directory, BEFORE), JSON.stringify(before));
  // The upper one first: the lower may not be above it.
  for (const file of LIMITS.toReversed()) writeFileSync(file, String(needed));
}

/** As it was before the lab; nothing when the lab needed no more. */
export function neighboursAsBefore(directory: string): void {
  const file = join(directory, BEFORE);
  if (!existsSync(file)) return;
  const before = JSON.parse(readFileSync(file, "utf8")) as number[];
  for (const [i, limit] of LIMITS.entries()) writeFileSync(limit, String(before[i]));
  rmSync(file);
}
