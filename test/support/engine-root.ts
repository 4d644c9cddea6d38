import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/**
 * Docker engines the tests run on: of Debian 12, on which the lab runs, of Debian 13, and of the release
 * that is yet to come. The last moves on: its kind is the oldest that it may be (`engineVersion` is what it
 * is).
 */
export const ENGINE_KINDS = ["20.10", "26.1", "28.5"] as const;
export type EngineKind = (typeof ENGINE_KINDS)[number];

/** Debian's release with an engine other than the host's own. */
const RELEASES: Readonly<Partial<Record<EngineKind, string>>> = {
  "26.1": "trixie",
  "28.5": "forky",
};

/** The first process of the engine's root, its id as the host's own processes see it. */
const HOLDER = "engine-root.pid";

/**
 * Another Debian's root beside the host's own, in a mount namespace of the engine. What it has of the
 * host: /proc, /sys, /dev, the lab's directory, and /run as one: the agent sees the engine's socket
 * and sandboxes, the engine the agent's plugin. A root by pivot_root(2): in a chroot the engine
 * fails to unpack images. Undefined: the kind is the host's own engine.
 *
 * @throws what the root could not be made of.
 */
export async function engineRoot(
  kind: EngineKind,
  lab: string,
  host: string,
): Promise<readonly string[] | undefined> {
  const release = RELEASES[kind];
  if (release === undefined) return undefined;
  const { stdout } = await run(join(import.meta.dirname, "debian-root"), [release]);
  const script = [
    "set -e",
    'lower=$1 lab=$2 host=$3 root="$3/root"',
    'mkdir -p "$root" "$root.upper" "$root.work"',
    'mount -t overlay overlay -o "lowerdir=$lower,upperdir=$root.upper,workdir=$root.work" "$root"',
    'mkdir -p "$root$lab" && mount --bind "$lab" "$root$lab"',
    'for d in proc sys dev run; do mount --rbind "/$d" "$root/$d"; done',
    'mount --bind "$host/resolv.conf" "$root/etc/resolv.conf"',
    'cd "$root" && pivot_root . mnt',
    // Private first: /run is shared with the host, and would be emptied there as well.
    "mount --make-rprivate /mnt && umount -l /mnt",
    `echo $$ >/run/${HOLDER}.new && mv /run/${HOLDER}.new /run/${HOLDER}`,
    "exec sleep infinity",
  ].join("\n");
  const unshare = ["unshare", "--mount", "--propagation", "unchanged"];
  return [...unshare, "sh", "-c", script, "sh", stdout.trim(), lab, host];
}

/** What enters the engine's root, from the host's; nothing where the engine runs in the host's. */
export function enterEngineRoot(host: string): string[] {
  const file = join(host, "run", HOLDER);
  if (!existsSync(file)) return [];
  return ["nsenter", `--target=${readFileSync(file, "utf8").trim()}`, "--mount", "--"];
}
