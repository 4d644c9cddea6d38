import { setTimeout as delay } from "node:timers/promises";
import type { Status } from "../../agent/api/status.ts";
import { agentPid } from "../lab/agent-process.ts";
import type { Lab } from "../lab/lab.ts";
import { cpuSeconds, privateMb, wakeUps } from "../support/process-cost.ts";
import { median, round } from "./statistics.ts";

export interface Idle {
  readonly privateMb: number;
  readonly cpuPercent: number;
  /** Of all its threads, a second. */
  readonly wakeUps: number;
  /** Of the control plane's payload, in and out, a minute. */
  readonly meshBytes: number;
}

/** Of the agents while nothing happens; medians over the hosts. */
export async function measureIdle(lab: Lab, seconds: number): Promise<Idle> {
  const pids = lab.hosts.map((host) => agentPid(host.directory));
  const said = (): Promise<number[]> =>
    Promise.all(lab.hosts.map(async (host) => meshBytes(await host.status())));
  const used = () => ({ cpu: pids.map(cpuSeconds), woken: pids.map(wakeUps) });
  // To be asked costs them something: not within what is measured.
  const [bytes, before] = [await said(), used()];
  await delay(seconds * 1000);
  const after = used();
  const bytesAfter = await said();
  const each = (after: number[], before: number[]): number =>
    median(after.map((count, i) => (count - (before[i] ?? 0)) / seconds));
  return {
    privateMb: round(median(pids.map(privateMb)), 0),
    cpuPercent: round(each(after.cpu, before.cpu) * 100),
    wakeUps: round(each(after.woken, before.woken), 0),
    meshBytes: round(each(bytesAfter, bytes) * 60, 0),
  };
}

function meshBytes({ counters }: Status): number {
  return Object.entries(counters["mesh"] ?? {})
    .filter(([name]) => name.endsWith("Bytes"))
    .reduce((sum, [, bytes]) => sum + bytes, 0);
}
