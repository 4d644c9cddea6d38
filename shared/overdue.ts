/** Parts of a service that may owe progress: since when (monotonic milliseconds); undefined, none. */
export type Owed = Readonly<Record<string, number | undefined>>;

/** The parts that have owed progress for longer than `limitMs`, in the order of their names. */
export function overdue(owed: Owed, nowMs: number, limitMs: number): string[] {
  return Object.entries(owed)
    .filter(([, sinceMs]) => sinceMs !== undefined && nowMs - sinceMs > limitMs)
    .map(([name]) => name)
    .sort();
}
