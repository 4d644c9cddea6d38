import { execFileSync } from "node:child_process";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");
/** The last commit of 0.1.0, from before the state travelled as objects. */
const COMMIT = "24204fdb";

/**
 * The sources of 0.1.0, out of this clone's history, with this checkout's packages: its own were the same.
 * @returns its command. @throws when the history is not here
 */
export function olderProgram(directory: string): string {
  const git = (...args: string[]): Buffer =>
    execFileSync("git", ["-C", ROOT, ...args], { maxBuffer: 1 << 30, stdio: "pipe" });
  try {
    git("cat-file", "-e", `${COMMIT}^{commit}`);
  } catch (cause) {
    const next = "clone it whole, or `git fetch --unshallow`";
    throw new Error(
      `this clone's history does not reach back to ${COMMIT}, which is 0.1.0: ${next}`,
      { cause },
    );
  }
  const root = join(directory, "0.1.0");
  mkdirSync(root, { recursive: true });
  execFileSync("tar", ["-x", "-C", root], { input: git("archive", COMMIT) });
  symlinkSync(join(ROOT, "node_modules"), join(root, "node_modules"));
  return join(root, "deploy/overlay-ts");
}
