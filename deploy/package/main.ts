import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { VERSION } from "../../shared/version.ts";
import { member } from "./ar-member.ts";
import { controlFiles } from "./control.ts";
import { ROOT } from "./lock.ts";
import { MACHINES, type Machine, makeTree } from "./tree.ts";

/**
 * `npm run package [-- DIRECTORY [MACHINE ...]]`: packages of these sources for Debian and Ubuntu, and the same tree as
 * an archive. The same bytes from the same commit: names are sorted and times are the commit's (or
 * SOURCE_DATE_EPOCH's), owners and modes fixed.
 */

/** Larger ones are refused: something was packed that is not needed. */
export const MOST_BYTES = 30_000_000;

export interface Packed {
  readonly deb: string;
  readonly archive: string;
}

/** `compression` is dpkg-deb's: `none` is for tests, which need not wait for xz. */
export async function makePackage(
  directory: string,
  machine: Machine,
  compression: "xz" | "none" = "xz",
): Promise<Packed> {
  mkdirSync(directory, { recursive: true });
  const name = join(resolve(directory), `overlay-ts_${VERSION}_${machine}`);
  const made = mkdtempSync(join(tmpdir(), "overlay-ts-package-"));
  const epoch = sourceEpoch();
  try {
    const tree = join(made, "tree");
    await makeTree(tree, machine, epoch);
    const control = controlFiles(tree, machine);
    mkdirSync(join(tree, "DEBIAN"));
    for (const [file, content] of Object.entries(control)) {
      const path = join(tree, "DEBIAN", file);
      writeFileSync(path, content);
      chmodSync(path, /^(pre|post)/.test(file) ? 0o755 : 0o644);
      utimesSync(path, epoch, epoch);
    }
    for (const path of [join(tree, "DEBIAN"), tree]) utimesSync(path, epoch, epoch);
    // One thread: with more the bytes depend on how many there are.
    const options = [`-Z${compression}`, "--threads-max=1", "--root-owner-group"];
    execFileSync("dpkg-deb", [...options, "--build", tree, `${name}.deb`], {
      stdio: ["ignore", "ignore", "inherit"],
      env: { ...process.env, SOURCE_DATE_EPOCH: String(epoch) },
    });
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
  const extension = compression === "xz" ? ".tar.xz" : ".tar";
  const deb = readFileSync(`${name}.deb`);
  if (compression === "xz" && deb.length > MOST_BYTES)
    throw new Error(`${name}.deb has ${deb.length} bytes, more than ${MOST_BYTES}`);
  writeFileSync(name + extension, member(deb, `data${extension}`));
  return { deb: `${name}.deb`, archive: name + extension };
}

/** Of the last commit: when what is packed was written. Also of a clone that is another user's. */
function sourceEpoch(): number {
  const given = process.env["SOURCE_DATE_EPOCH"];
  if (given !== undefined) return Number(given);
  const git = ["-c", "safe.directory=*", "log", "-1", "--format=%ct"];
  const { status, stdout } = spawnSync("git", git, { cwd: ROOT, encoding: "utf8" });
  if (status !== 0)
    throw new Error("git does not tell the last commit's time: set SOURCE_DATE_EPOCH (seconds)");
  return Number(stdout);
}

const isMachine = (name: string): name is Machine => Object.hasOwn(MACHINES, name);

if (import.meta.main) {
  const [directory = join(ROOT, "dist"), ...names] = process.argv.slice(2);
  const unknown = names.filter((name) => !isMachine(name));
  if (unknown.length > 0)
    throw new Error(`no machine named ${unknown.join(", ")}: ${Object.keys(MACHINES).join(", ")}`);
  const machines =
    names.length === 0 ? (Object.keys(MACHINES) as Machine[]) : names.filter(isMachine);
  for (const machine of machines) {
    const { deb, archive } = await makePackage(directory, machine);
    console.log(`${deb}\n${archive}`);
  }
}
