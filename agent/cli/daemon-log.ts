import { type DestinationStream, pino, stdSerializers } from "pino";
import type { Log } from "../../shared/ports.ts";

/**
 * JSON lines on stdout, which journald keeps. An error in whatever field has its message, stack, code and causes:
 * left to JSON it would be `{}`.
 */
export function daemonLog(name: string, level: string, to?: DestinationStream): Log {
  const options = {
    name,
    level,
    base: { name },
    formatters: { log: withErrors },
    // pino's own would serialise it once more, and lose the causes.
    serializers: { err: (written: unknown) => written },
  };
  const log = to === undefined ? pino(options) : pino(options, to);
  return {
    debug: (fields, message) => log.debug(fields, message),
    info: (fields, message) => log.info(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
  };
}

function withErrors(fields: Record<string, unknown>): Record<string, unknown> {
  const written = Object.entries(fields).map(([key, value]) => [
    key,
    value instanceof Error ? stdSerializers.errWithCause(value) : value,
  ]);
  return Object.fromEntries(written) as Record<string, unknown>;
}
