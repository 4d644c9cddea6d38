import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import koffi from "koffi";
import { OverlayError } from "../errors.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;

const LOOK_MS = 100;
const PATIENCE_MS = 30_000;

let flock: ((fd: number, operation: number) => number) | undefined;

/**
 * Tells that a process lives, whatever became of its sockets: flock(2) on a file, which ends with the
 * process however that ends, and never is of one that does not run any more.
 */
export class ProcessLock {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** The lock, or what holds it: its word for itself and its process id, undefined where it is not known. */
  static take(path: string, who: string): ProcessLock | { readonly heldBy: string } {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const fd = openSync(path, "a+", 0o600);
    // Loaded by who needs it: most commands do not.
    flock ??= koffi
      .load("libc.so.6")
      .func("int flock(int fd, int operation)") as unknown as typeof flock;
    if (flock!(fd, LOCK_EX | LOCK_NB) !== 0) {
      const heldBy = readFileSync(path, "utf8").trim();
      closeSync(fd);
      return { heldBy: heldBy === "" ? "another process" : heldBy };
    }
    ftruncateSync(fd);
    writeSync(fd, `${who}, process ${process.pid}\n`);
    return new ProcessLock(fd);
  }

  /**
   * A service's. Commands that look whether one lives hold it for a moment. @throws PORT_TAKEN: another one runs.
   * @param unit systemd's, of the service
   */
  static async ofService(path: string, who: string, unit: string): Promise<ProcessLock> {
    for (const begunMs = performance.now(); ; await delay(LOOK_MS)) {
      const taken = ProcessLock.take(path, who);
      if (taken instanceof ProcessLock) return taken;
      if (performance.now() - begunMs > PATIENCE_MS)
        throw new OverlayError({
          code: "PORT_TAKEN",
          message: `${taken.heldBy} works on ${dirname(path)} already`,
          next: `see \`systemctl status ${unit}\`, or end that process`,
        });
    }
  }

  /** What holds it, in its own words; undefined: nothing. */
  static holder(path: string): string | undefined {
    const taken = ProcessLock.take(path, "");
    if (!(taken instanceof ProcessLock)) return taken.heldBy;
    taken.release();
    return undefined;
  }

  release(): void {
    closeSync(this.#fd);
  }
}
