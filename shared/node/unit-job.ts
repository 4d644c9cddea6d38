import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";

const run = promisify(execFile);
const TIMEOUT_MS = 1000;

/**
 * Whether systemd is ending this service in order to leave it ended: asked while it does. False also
 * where nobody can say so; who is not stopped is started again.
 */
export async function isStoppedForGood(): Promise<boolean> {
  const unit = serviceOf(readFileSync("/proc/self/cgroup", "utf8"));
  if (unit === undefined) return false;
  try {
    const command = ["list-jobs", "--plain", "--no-legend", unit];
    const { stdout } = await run("systemctl", command, { timeout: TIMEOUT_MS });
    return hasStopJob(stdout, unit);
  } catch {
    return false;
  }
}

/** The service that a process belongs to, by its control group (cgroups(7)); of either version. */
export function serviceOf(cgroups: string): string | undefined {
  return /^(?:0:|\d+:name=systemd):.*\/([^/\n]+\.service)$/m.exec(cgroups)?.[1];
}

/** In lines of `<number> <unit> <type> <state>`: a restart is a job of its own type. */
export function hasStopJob(jobs: string, unit: string): boolean {
  return jobs.split("\n").some((line) => {
    const [, name, type] = line.trim().split(/ +/);
    return name === unit && type === "stop";
  });
}
