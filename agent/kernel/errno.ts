import { constants } from "node:os";

/** `EADDRINUSE` of 98: the kernel's error by its name, or its number where it has none. */
export function errnoName(errno: number): string {
  // Two names for one number: the kernel's own is this one.
  if (errno === constants.errno.EOPNOTSUPP) return "EOPNOTSUPP";
  return Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `${errno}`;
}
