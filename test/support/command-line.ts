import { type ChildProcess, execFile } from "node:child_process";
import { join } from "node:path";

const main = join(import.meta.dirname, "../../agent/cli/start.ts");

export interface Ended {
  readonly status: number;
  /** On stdout. */
  readonly out: string;
  /** On stderr. */
  readonly said: string;
}

/** `overlay-ts` as a user types it, with `directory` for data and sockets; `through`: a program that starts it. */
export function overlayTs(
  directory: string,
  args: readonly string[],
  variables: Readonly<Record<string, string>> = {},
  through: readonly string[] = [],
): { child: ChildProcess; ended: Promise<Ended> } {
  const env = {
    PATH: process.env["PATH"],
    OVERLAY_TS_DATA_DIR: directory,
    OVERLAY_TS_RUN_DIR: directory,
    ...variables,
  };
  const ended = Promise.withResolvers<Ended>();
  const [file, ...rest] = [...through, process.execPath, main, ...args] as [string, ...string[]];
  const child = execFile(file, rest, { env }, (error, out, said) =>
    ended.resolve({ status: error === null ? 0 : Number(error.code), out, said }),
  );
  return { child, ended: ended.promise };
}
