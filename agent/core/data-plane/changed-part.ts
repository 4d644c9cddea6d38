/** Where two lists of the same objects in the same order differ: what is before and after that is in both. */
export interface ChangedPart<T> {
  readonly before: readonly T[];
  readonly after: readonly T[];
}

/**
 * By identity: lists whose members are replaced and never changed, as those that are read of documents, differ in
 * what the changed document says. A comparison of pointers, some microseconds for thousands.
 */
export function changedPart<T>(before: readonly T[], after: readonly T[]): ChangedPart<T> {
  const most = Math.min(before.length, after.length);
  let start = 0;
  while (start < most && before[start] === after[start]) start++;
  let [beforeEnd, afterEnd] = [before.length, after.length];
  while (beforeEnd > start && afterEnd > start && before[beforeEnd - 1] === after[afterEnd - 1]) {
    beforeEnd--;
    afterEnd--;
  }
  return { before: before.slice(start, beforeEnd), after: after.slice(start, afterEnd) };
}
