import { asFailure, OverlayError } from "../../shared/errors.ts";

/**
 * What a request failed with, so that it can be told to another thread: that its time was over (TIMEOUT), or what the
 * system said when it connected (`errno`). Anything else is as it was.
 */
export function channelFailure(error: unknown): unknown {
  const root = rootCause(error);
  const { message } = asFailure(root);
  const { name, code, syscall } = root as NodeJS.ErrnoException;
  const next = "check that the controller runs (`systemctl status overlay-ts-controller` there)";
  if (name === "TimeoutError" || name === "AbortError")
    return new OverlayError({ code: "TIMEOUT", message, next }, { cause: error });
  if (syscall !== "connect" || code === undefined) return error;
  return new OverlayError(
    { code: "UNREACHABLE", message, next, op: syscall, errno: code },
    { cause: error },
  );
}

/** libp2p wraps: the innermost reason is the one a person can use. */
export function rootCause(error: unknown): unknown {
  let at = error;
  for (let depth = 0; depth < 5; depth++) {
    const inner = at instanceof AggregateError ? (at.errors[0] as unknown) : (at as Error).cause;
    if (inner === undefined) break;
    at = inner;
  }
  return at;
}
