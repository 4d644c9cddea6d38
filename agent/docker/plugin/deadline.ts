import { OverlayError } from "../../../shared/errors.ts";

/** A call's time, and what ends it early. */
export interface Deadline {
  readonly timeoutMs: number;
  /** The call, for the error's words. */
  readonly name: string;
  /** Aborted when nobody waits for the answer any more. */
  readonly gone: AbortSignal;
  /** The work ended after its time: it has taken back what it did. */
  readonly late: () => void;
}

/**
 * The work's result, or TIMEOUT. Work that is told to stop has no effect after that: it looks at the
 * signal after each wait and takes back what it had asked of others. So Docker, that was told of a
 * failure, and our tables agree.
 */
export async function withinDeadline<T>(
  { timeoutMs, name, gone, late }: Deadline,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const ended = Promise.withResolvers<never>();
  const stop = (why: OverlayError): void => {
    over.abort(why);
    ended.reject(why);
  };
  const timer = setTimeout(() => stop(timeout(name, timeoutMs)), timeoutMs);
  const leave = (): void => stop(hungUp(name));
  gone.addEventListener("abort", leave, { once: true });
  const done = work(over.signal);
  const settled = (): void => {
    if (over.signal.aborted) late();
  };
  done.then(settled, settled);
  try {
    return await Promise.race([done, ended.promise]);
  } finally {
    clearTimeout(timer);
    gone.removeEventListener("abort", leave);
  }
}

function timeout(name: string, timeoutMs: number): OverlayError {
  return new OverlayError({
    code: "TIMEOUT",
    message: `overlay-ts did not finish ${name} in ${timeoutMs / 1000} s`,
    next: "see `overlay-ts status` for what it waits for, and try again",
  });
}

function hungUp(name: string): OverlayError {
  return new OverlayError({
    code: "TIMEOUT",
    message: `Docker hung up before ${name} was done`,
    next: "try again",
  });
}
