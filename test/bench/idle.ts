import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { agentPid } from "../lab/agent-process.ts";
import type { Lab } from "../lab/lab.ts";
import { median, round } from "./statistics.ts";

export interface Idle {
  readonly privateMb: number;
  readonly cpuPercent: number;
}

/** Clock ticks a second, as /proc counts CPU time (USER_HZ). */
const TICKS = 100;

/** Of the agents while nothing happens; medians over the hosts. */
export async function measureIdle(lab: Lab, seconds: number): Promise<Idle> {
  const pids = lab.hosts.map((host) => agentPid(host.directory));
  const before = pids.map(cpuTicks);
  await delay(seconds * 1000);
  const used = pids.map((pid, i) => cpuTicks(pid) - (before[i] ?? 0));
  return {
    privateMb: round(median(pids.map(privateMb)), 0),
    cpuPercent: round(median(used.map((ticks) => (ticks / TICKS / seconds) * 100))),
  };
}

function cpuTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

function privateMb(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const kilobytes = [...rollup.matchAll(/^Private_\w+:\s+(\d+) kB/gm)].map(([, kb]) => Number(kb));
  return kilobytes.reduce((sum, kb) => sum + kb, 0) / 1024;
}
