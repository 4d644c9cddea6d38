import { readdirSync, readFileSync } from "node:fs";

/** Clock ticks a second, as /proc counts CPU time (USER_HZ). */
const TICKS = 100;

/** Seconds of CPU time that a process has used, all its threads. Source: proc(5), `stat`. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

/** MB that would be free if it ended. Source: proc(5), `smaps_rollup`. */
export function privateMb(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const kilobytes = [...rollup.matchAll(/^Private_\w+:\s+(\d+) kB/gm)].map(([, kb]) => Number(kb));
  return kilobytes.reduce((sum, kb) => sum + kb, 0) / 1024;
}

/** How often its threads have waited for something, and were woken by it. Source: proc(5), `status`. */
export function wakeUps(pid: number): number {
  const tasks = readdirSync(`/proc/${pid}/task`).map((task) =>
    readFileSync(`/proc/${pid}/task/${task}/status`, "utf8"),
  );
  return tasks
    .map((status) => Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)?.[1]))
    .reduce((sum, count) => sum + count, 0);
}
