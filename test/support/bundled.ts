import { copyFileSync, mkdirSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { bundle, bundleWhenOld } from "../../deploy/bundle.ts";

/** Before a project's tests: agents and commands start in half the time from the bundle. */
export default bundleWhenOld;

const root = resolve(import.meta.dirname, "../..");

/**
 * The program with another entry that shares its modules, below `directory`.
 *
 * @returns the command, and the entry's file.
 */
export async function bundledWith(
  name: string,
  source: string,
  directory: string,
): Promise<{ readonly command: string; readonly entry: string }> {
  const deploy = join(directory, "deploy");
  mkdirSync(deploy, { recursive: true });
  copyFileSync(join(root, "deploy/overlay-ts"), join(deploy, "overlay-ts"));
  symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
  await bundle(join(deploy, "bundle"), { [name]: source });
  return { command: join(deploy, "overlay-ts"), entry: join(deploy, "bundle", `${name}.js`) };
}
