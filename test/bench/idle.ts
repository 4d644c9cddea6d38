import { setTimeout as delay } from "node:timers/promises";
import { agentPid } from "../lab/agent-process.ts";
import type { Lab } from "../lab/lab.ts";
import { cpuSeconds, privateMb } from "../support/process-cost.ts";
import { median, round } from "./statistics.ts";

export interface Idle {
  readonly privateMb: number;
  readonly cpuPercent: number;
}

/** Of the agents while nothing happens; medians over the hosts. */
export async function measureIdle(lab: Lab, seconds: number): Promise<Idle> {
  const pids = lab.hosts.map((host) => agentPid(host.directory));
  const before = pids.map(cpuSeconds);
  await delay(seconds * 1000);
  const used = pids.map((pid, i) => cpuSeconds(pid) - (before[i] ?? 0));
  return {
    privateMb: round(median(pids.map(privateMb)), 0),
    cpuPercent: round(median(used.map((cpu) => (cpu / seconds) * 100))),
  };
}
