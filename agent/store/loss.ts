import type { Failure } from "../../shared/errors.ts";
import { oneLine } from "../../shared/text.ts";

/** What was on the disk, and cannot be read any more. */
export interface Loss {
  readonly what: string;
  readonly why: string;
  /** Where it was put aside, if there is something left to look at. */
  readonly keptAs?: string;
}

export function lossText({ what, why, keptAs }: Loss): string {
  const kept = keptAs === undefined ? "" : `; it is kept as ${keptAs}`;
  return `${what}: ${oneLine(why, 300)}${kept}`;
}

export interface DiskStatus {
  /** Entries that are not on disk as they should be: written when it takes them. */
  readonly owed: number;
  /** Why the last write was not taken; undefined: it was. */
  readonly failure: Failure | undefined;
  /** Since the start; the first hundred. */
  readonly losses: readonly Loss[];
}
