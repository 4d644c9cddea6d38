import { constants } from "node:os";
import { OverlayError } from "../../shared/errors.ts";

/** `EADDRINUSE` of 98: the kernel's error by its name, or its number where it has none. */
export function errnoName(errno: number): string {
  // Two names for one number: the kernel's own is this one.
  if (errno === constants.errno.EOPNOTSUPP) return "EOPNOTSUPP";
  return Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `${errno}`;
}

/** What the kernel said to a request. @param next what to do, where it is known */
export function refusedByKernel(op: string, code: number, next?: string): OverlayError {
  const errno = errnoName(code);
  return new OverlayError({
    code: "NETLINK",
    op,
    errno,
    message: `the kernel refused ${op}: ${errno}`,
    ...(next === undefined ? {} : { next }),
  });
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
