import type { z } from "zod";
import { issuesOf } from "./issues.ts";

/** Every failure overlay-ts can name. The code decides exit status, HTTP status and what the CLI advises. */
export const ERROR_CODES = [
  "INVALID", // the caller's input is wrong
  "NOT_FOUND",
  "CONFLICT", // name, address or subnet already taken
  "FULL", // no block, address, VNI or port left
  "FORBIDDEN", // admitted, but not allowed this
  "UNAUTHENTICATED", // token, signature or identity does not hold
  "NOT_JOINED",
  "UNREACHABLE", // controller, peer or data path
  "UNSUPPORTED", // kernel, kind of Docker, option, version
  "PORT_TAKEN",
  "NOT_ROOT",
  "STALE", // lower revision, older incarnation, lost compare-and-set
  "TOO_LARGE",
  "TIMEOUT",
  "NETLINK",
  "DOCKER",
  "STORE",
  "INTERNAL",
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

export interface Failure {
  readonly code: ErrorCode;
  /** What happened, as a sentence a user can read. Never keys, never tokens. */
  readonly message: string;
  /** What to do about it, if anything can be done. */
  readonly next?: string;
  /** The operation that failed, e.g. `RTM_NEWLINK vxlan`. */
  readonly op?: string;
  /** Kernel error name, e.g. `EEXIST`. */
  readonly errno?: string;
}

/** The one error class. Wrapped once a layer, with the cause kept. */
export class OverlayError extends Error {
  readonly code: ErrorCode;
  readonly next: string | undefined;
  readonly op: string | undefined;
  readonly errno: string | undefined;

  constructor(failure: Failure, options?: { cause?: unknown }) {
    super(failure.message, options);
    this.name = "OverlayError";
    this.code = failure.code;
    this.next = failure.next;
    this.op = failure.op;
    this.errno = failure.errno;
  }

  toFailure(): Failure {
    return {
      code: this.code,
      message: this.message,
      ...(this.next === undefined ? {} : { next: this.next }),
      ...(this.op === undefined ? {} : { op: this.op }),
      ...(this.errno === undefined ? {} : { errno: this.errno }),
    };
  }
}

/** Any thrown value as a Failure; foreign errors become INTERNAL with their own text. */
export function asFailure(error: unknown): Failure {
  if (error instanceof OverlayError) return error.toFailure();
  if (isZodError(error)) return { code: "INVALID", message: issuesOf(error) };
  return { code: "INTERNAL", message: error instanceof Error ? error.message : String(error) };
}

/** By its shape: threads that parse nothing need not load the parser. */
function isZodError(error: unknown): error is z.ZodError {
  return error instanceof Error && error.name === "ZodError" && "issues" in error;
}

/** An invariant of our own that does not hold: crash, do not log. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`broken invariant: ${what}`);
}
