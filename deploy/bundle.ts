import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { rolldown } from "rolldown";

/**
 * The program as few files: it starts in half the processor time of its 1,464 modules, and each thread's
 * heap is 12 MB smaller. `deploy/overlay-ts` runs it while no source is newer.
 */

const root = resolve(import.meta.dirname, "..");
export const BUNDLE = join(root, "deploy/bundle");

/** What Node is told to run: the program, and its threads. Each becomes a file of that name. */
const ENTRIES = {
  start: "agent/cli/start.ts",
  "mesh-worker": "agent/replication/gossip/mesh-worker.ts",
  "names-worker": "agent/names/server/names-worker.ts",
  "balancing-worker": "agent/balancing/balancing-worker.ts",
  "patience-worker": "agent/names/server/patience-worker.ts",
};

/** Each loads machine code from beside itself. */
const EXTERNAL = ["koffi", "netlink"];

/** Of package-lock.json, version 3: keys are paths (docs.npmjs.com, package-lock.json). */
interface Lock {
  readonly packages: Readonly<Record<string, LockedPackage>>;
}

interface LockedPackage {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/**
 * Writes the bundle into `directory`, in place of what is there. `more`: further files to be loaded, which share
 * the program's modules. Beside the code lies `packages`: paths of the packages that it needs, a line each.
 */
export async function bundle(
  directory = BUNDLE,
  more: Readonly<Record<string, string>> = {},
): Promise<void> {
  // Beside its place: who starts meanwhile finds a whole one or none, and runs the sources then.
  const made = mkdtempSync(`${directory}.`);
  chmodSync(made, 0o755);
  try {
    const build = await rolldown({
      cwd: root,
      input: { ...ENTRIES, ...more },
      platform: "node",
      external: EXTERNAL,
      onLog: (level, { code, message }) => {
        // A package of libp2p's marks what is not a call.
        if (level === "warn" && code !== "INVALID_ANNOTATION") throw new Error(message);
      },
    });
    await build.write({ dir: made, format: "esm", entryFileNames: "[name].js" });
    writeFileSync(join(made, "package.json"), '{ "type": "module" }\n');
    writeFileSync(join(made, "packages"), `${neededPackages().join("\n")}\n`);
    rmSync(directory, { recursive: true, force: true });
    try {
      renameSync(made, directory);
    } catch (error) {
      // Another made one at the same time: of the same sources.
      if (!existsSync(join(directory, "start.js"))) throw error;
    }
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
}

/** The external ones, and what they need. */
function neededPackages(): string[] {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as Lock;
  const needed = new Set<string>();
  const need = (name: string, from: string): void => {
    // As Node looks for it: in the package's own node_modules, then in those above.
    const inside = join(from, "node_modules", name);
    if (!(inside in lock.packages)) {
      if (from !== "")
        need(name, from.slice(0, from.lastIndexOf("node_modules")).replace(/\/$/, ""));
      return;
    }
    if (needed.has(inside)) return;
    needed.add(inside);
    const { dependencies, optionalDependencies } = lock.packages[inside] ?? {};
    for (const each of Object.keys({ ...dependencies, ...optionalDependencies }))
      need(each, inside);
  };
  for (const name of EXTERNAL) need(name, "");
  return [...needed].toSorted();
}

/** Leaves a bundle that is current as it is: programs run from it. */
export async function bundleWhenOld(): Promise<void> {
  if (execFileSync(join(root, "deploy/newer-source")).length > 0) await bundle();
}

if (import.meta.main) await bundleWhenOld();
