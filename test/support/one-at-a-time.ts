import { createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/**
 * A setup file of projects whose files must not run at once, though files of another project may run
 * beside them (vitest.config.ts): waits until no other file with the same `TURN` runs in this run of vitest.
 * The kernel frees the name when the worker ends, however it ends (unix(7), abstract addresses).
 */
const name = `\0overlay-ts-test-${process.env["TURN"]}-${process.ppid}`;

while (!(await takeTurn())) await delay(500);

/** False: another file has it. @throws whatever else keeps the name from being bound. */
function takeTurn(): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const held = createServer();
    held.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(false);
      else reject(error);
    });
    held.listen(name, () => {
      held.unref();
      resolve(true);
    });
  });
}
