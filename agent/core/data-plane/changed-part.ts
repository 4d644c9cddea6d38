/** Where two lists differ: what is before and after that is in both. */
export interface ChangedPart<T> {
  /** Where it begins, in both. */
  readonly start: number;
  readonly before: readonly T[];
  readonly after: readonly T[];
}

/**
 * By identity: lists whose members are replaced and never changed, as those that are read of documents, differ in
 * what the changed document says. A comparison of pointers, some microseconds for thousands.
 */
export function changedPart<T>(before: readonly T[], after: readonly T[]): ChangedPart<T> {
  const most = Math.min(before.length, after.length);
  let start = before === after ? most : 0;
  while (start < most && before[start] === after[start]) start++;
  let [beforeEnd, afterEnd] = [before.length, after.length];
  while (beforeEnd > start && afterEnd > start && before[beforeEnd - 1] === after[afterEnd - 1]) {
    beforeEnd--;
    afterEnd--;
  }
  return { start, before: before.slice(start, beforeEnd), after: after.slice(start, afterEnd) };
}

/** The same of lists whose members are made anew each time, compared by `same`. */
export function differentPart<T>(
  before: readonly T[],
  after: readonly T[],
  same: (a: T, b: T) => boolean,
): ChangedPart<T> {
  const most = Math.min(before.length, after.length);
  let start = 0;
  while (start < most && same(before[start]!, after[start]!)) start++;
  let end = 0;
  while (end < most - start && same(before.at(-1 - end)!, after.at(-1 - end)!)) end++;
  return {
    start,
    before: before.slice(start, before.length - end),
    after: after.slice(start, after.length - end),
  };
}

/** A list, as one host's of a network, and beside it what all of its members have in common. */
export interface Group<T> {
  readonly members: readonly T[];
}

/** Groups with no more members than those in which they differ. */
export interface ChangedGroups<G> {
  readonly before: readonly G[];
  readonly after: readonly G[];
}

/**
 * Where two lists of groups differ, at the cost of as many comparisons as there are groups, and members in the groups
 * that are others. `alike`: what the members have in common is the same.
 */
export function changedGroups<G extends Group<unknown>>(
  before: readonly G[],
  after: readonly G[],
  alike: (a: G, b: G) => boolean,
): ChangedGroups<G> {
  const same = (a: G, b: G): boolean => a === b || (a.members === b.members && alike(a, b));
  const part = differentPart(before, after, same);
  // A group more or less: then which of one list is which of the other is not to be seen.
  if (part.before.length !== part.after.length) return part;
  const changed: { before: G[]; after: G[] } = { before: [], after: [] };
  for (const [i, a] of part.before.entries()) {
    const b = part.after[i]!;
    if (same(a, b)) continue;
    const members = alike(a, b) ? changedPart(a.members, b.members) : undefined;
    changed.before.push(members === undefined ? a : { ...a, members: members.before });
    changed.after.push(members === undefined ? b : { ...b, members: members.after });
  }
  return changed;
}

/** The list as it was before while its members are the same, so that who compares need not look at these. */
export function heldOn<T>(before: readonly T[] | undefined, now: readonly T[]): readonly T[] {
  const isSame = before?.length === now.length && now.every((each, i) => each === before[i]);
  return isSame ? before : now;
}
