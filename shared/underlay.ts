import type { NodeRecord } from "./cluster-state.ts";

/** Of a host's record what follows its interfaces, and may change while it is a member. */
export type UnderlayFacts = Pick<NodeRecord, "underlayMtuBytes" | "ownSubnets">;

/** In whatever order the kernel names the subnets. */
export function sameUnderlay(a: UnderlayFacts, b: UnderlayFacts): boolean {
  return a.underlayMtuBytes === b.underlayMtuBytes && isEmpty(newSubnets(a, b), newSubnets(b, a));
}

/** Subnets that `now` has and `before` had not. */
export function newSubnets(
  before: Pick<UnderlayFacts, "ownSubnets">,
  now: Pick<UnderlayFacts, "ownSubnets">,
): UnderlayFacts["ownSubnets"] {
  const held = new Set(before.ownSubnets);
  return now.ownSubnets.filter((subnet) => !held.has(subnet));
}

function isEmpty(...lists: readonly (readonly unknown[])[]): boolean {
  return lists.every(({ length }) => length === 0);
}
