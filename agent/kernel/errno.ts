import { constants } from "node:os";
import { OverlayError } from "../../shared/errors.ts";

/** `EADDRINUSE` of 98: the kernel's error by its name, or its number where it has none. */
export function errnoName(errno: number): string {
  // Two names for one number: the kernel's own is this one.
  if (errno === constants.errno.EOPNOTSUPP) return "EOPNOTSUPP";
  return Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `${errno}`;
}

/** What a step needs and a look at the kernel did not find, as the kernel itself would say it. */
export function missing(what: string): OverlayError {
  return new OverlayError({
    code: "NETLINK",
    op: "lookup",
    errno: "ENODEV",
    message: `${what} is not there`,
  });
}
