import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const FREEZER = "/sys/fs/cgroup/freezer";

/**
 * Paused containers among a process's descendants run again: with cgroups of version 1 a frozen process
 * hears no SIGKILL, and whoever waits for its namespace to end waits for ever.
 */
export function thawBelow(ancestor: number): void {
  for (const name of readdirSync("/proc"))
    if (/^\d+$/.test(name))
      try {
        const group = /^\d+:freezer:(\/.+)$/m.exec(
          readFileSync(`/proc/${name}/cgroup`, "utf8"),
        )?.[1];
        if (group === undefined || !isBelow(Number(name), ancestor)) continue;
        writeFileSync(join(FREEZER, group, "freezer.state"), "THAWED");
      } catch {
        // Ended meanwhile.
      }
}

function isBelow(pid: number, ancestor: number): boolean {
  for (let at = pid; at > 1; at = parentOf(at)) if (at === ancestor) return true;
  return false;
}

/** Field 4 of /proc/PID/stat. */
function parentOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
}
