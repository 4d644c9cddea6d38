import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process";
import { OverlayError } from "../errors.ts";

/**
 * spawn(), whose failures come in three ways: thrown, told by an event, and, without descriptors, told by an
 * event while the streams are not there. Here all are `onError`, once, and nobody's end: the child is
 * undefined when it has no streams.
 */
export function startProgram(
  command: string,
  args: readonly string[],
  { timeout, ...options }: SpawnOptions,
  onError: (error: OverlayError) => void,
): ChildProcess | undefined {
  try {
    const child = spawn(command, args, options);
    child.on("error", (cause) => onError(notStarted(command, cause)));
    if (child.pid === undefined) return undefined;
    if (timeout !== undefined) endAfter(child, timeout);
    return child;
  } catch (cause) {
    onError(notStarted(command, cause as NodeJS.ErrnoException));
    return undefined;
  }
}

/** Not spawn()'s own, whose timer runs on, and keeps the process, when nothing was started. */
function endAfter(child: ChildProcess, timeoutMs: number): void {
  const timer = setTimeout(() => child.kill(), timeoutMs);
  child.once("exit", () => clearTimeout(timer));
}

function notStarted(command: string, cause: NodeJS.ErrnoException): OverlayError {
  return new OverlayError(
    {
      code: cause.code === "ENOENT" ? "UNSUPPORTED" : "INTERNAL",
      op: `start ${command}`,
      ...(cause.code === undefined ? {} : { errno: cause.code }),
      message: `${command} cannot be started: ${cause.code ?? cause.message}`,
      next: NEXT[cause.code ?? ""] ?? "free memory and processes on this host",
    },
    { cause },
  );
}

const NEXT: Readonly<Record<string, string>> = {
  ENOENT: "install it",
  EACCES: "look at its permissions",
  EMFILE: "raise the service's LimitNOFILE=: this process has all files open that it may",
  ENFILE: "raise fs.file-max: this machine has all files open that it may",
};
