/** Lists that are kept in one order, and known to be so. */

/** Lists of which that is known. */
const inOrder = new WeakSet<object>();

/** The same list when it is in order. */
export function sorted<T>(list: T[], order: (a: T, b: T) => number): T[] {
  if (inOrder.has(list)) return list;
  const isInOrder = list.every((one, i) => i === 0 || order(list[i - 1]!, one) <= 0);
  const made = isInOrder ? list : list.toSorted(order);
  inOrder.add(made);
  return made;
}

/** Without what is other now, with what came; the same list when it is neither. */
export function changed<T>(
  before: T[],
  others: number,
  isOther: (one: T) => boolean,
  came: readonly T[],
  order: (a: T, b: T) => number,
): T[] {
  if (others === 0) return before;
  const kept = before.filter((one) => !isOther(one));
  const isMuch = came.length > FEW;
  const all = isMuch ? [...kept, ...came].toSorted(order) : kept;
  if (!isMuch) for (const one of came) all.splice(placeOf(all, one, order), 0, one);
  inOrder.add(all);
  return all;
}

/** Fewer are put in their places: the list is in order. */
export const FEW = 16;

/** Behind all that are not after it. */
export function placeOf<T, U>(list: readonly T[], one: U, order: (a: T, b: U) => number): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (order(list[middle]!, one) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** One that was made otherwise, by its own maker. */
export function noteOrder(list: object): void {
  inOrder.add(list);
}

export function isKnownInOrder(list: object): boolean {
  return inOrder.has(list);
}
