import { type DestinationStream, pino, stdSerializers } from "pino";
import type { Log } from "../../shared/ports.ts";

/** Of lines that stdout does not take: what is more is lost. */
const MOST_WAITING_BYTES = 1 << 20;

/**
 * JSON lines on stdout, which journald keeps. An error in whatever field has its message, stack, code and causes:
 * left to JSON it would be `{}`.
 */
export function daemonLog(name: string, level: string, to: DestinationStream = stdout()): Log {
  const options = {
    name,
    level,
    base: { name },
    formatters: { log: withErrors },
    // pino's own would serialise it once more, and lose the causes.
    serializers: { err: (written: unknown) => written },
  };
  const log = pino(options, to);
  return {
    debug: (fields, message) => log.debug(fields, message),
    info: (fields, message) => log.info(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
  };
}

/**
 * Its disk may be full, or who reads it gone: the next line tries again, and a network does not end for want of a log.
 * `flushSync`, at the process's end, would try for ever.
 */
function stdout(): DestinationStream {
  const lines = pino.destination({ dest: 1, sync: false, maxLength: MOST_WAITING_BYTES });
  const flushSync = lines.flushSync.bind(lines);
  lines.on("error", () => (lines.flushSync = () => {}));
  lines.on("write", () => (lines.flushSync = flushSync));
  return lines;
}

function withErrors(fields: Record<string, unknown>): Record<string, unknown> {
  const written = Object.entries(fields).map(([key, value]) => [
    key,
    value instanceof Error ? stdSerializers.errWithCause(value) : value,
  ]);
  return Object.fromEntries(written) as Record<string, unknown>;
}
