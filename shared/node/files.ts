import { randomBytes } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { OverlayError } from "../errors.ts";

/** Mode 0600 in a directory of mode 0700; whole or not at all, also over a power cut. */
export function writeSecret(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.new`;
  writeFileSync(temporary, text, { mode: 0o600, flush: true });
  renameSync(temporary, path);
  syncDirectory(path);
}

/** To another name in the same directory; whole or not at all, also over a power cut. */
export function moveSecret(from: string, to: string): void {
  renameSync(from, to);
  syncDirectory(to);
}

/**
 * The same where nothing is yet, in a directory that is there.
 * @throws CONFLICT: nothing is overwritten; STORE with the system's reason
 */
export function writeNewSecret(path: string, text: string): void {
  const temporary = `${path}.${randomBytes(8).toString("hex")}.new`;
  try {
    // Made by us, or not at all: in a directory like /tmp somebody may have put his own file or link there.
    writeFileSync(temporary, text, { flag: "wx", mode: 0o600, flush: true });
    // Unlike a rename it refuses what is there.
    linkSync(temporary, path);
    syncDirectory(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "EEXIST")
      throw new OverlayError({
        code: "CONFLICT",
        message: `${path} is there already`,
        next: "give another name, or remove it",
      });
    throw new OverlayError(
      {
        code: "STORE",
        message: `${path} cannot be written: ${message}`,
        next: "give a file in a directory that is there, on a file system with hard links, or - for stdout",
      },
      { cause: error },
    );
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** Why a file cannot be read, for people. */
export function whyUnreadable(error: unknown): string {
  const { code = "", message } = error as NodeJS.ErrnoException;
  const known: Readonly<Record<string, string>> = {
    ENOENT: "it is not there",
    EISDIR: "it is a directory",
    EACCES: "permission denied",
  };
  return known[code] ?? message;
}

/** What a directory names is on disk only when the directory is. */
function syncDirectory(path: string): void {
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
