import type { ProofStatus } from "../../agent/membership/failure-detector.ts";
import { round } from "../bench/statistics.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import type { Lab } from "./lab.ts";

/** How a cluster came to be, in seconds. */
export interface Formed {
  /** From `init` until the last `join` has ended. */
  readonly formS: number;
  /** From then until each host knows all others, and their kernels answer it. */
  readonly convergeS: number;
}

interface Row {
  readonly id: string;
  readonly self: boolean;
  readonly connected: boolean;
  readonly dialled: boolean;
  readonly dataPathMs?: number;
}

/** Of agents that share few processors: each hears of a hundred joins, and asks a hundred others. */
const CONVERGED_MS = 300_000;

export async function formed(lab: Lab, say: (text: string) => void): Promise<Formed> {
  const begunMs = performance.now();
  await lab.form(say);
  const formedMs = performance.now();
  say("until each host knows and reaches all others");
  for (const host of lab.hosts)
    await eventually(CONVERGED_MS, `all others, reached by ${host.name},`, async () => {
      const reached = (await rows(host)).filter(({ dataPathMs }) => dataPathMs !== undefined);
      if (reached.length < lab.hosts.length - 1)
        throw new Error(`${host.name} reaches ${reached.length} of ${lab.hosts.length - 1}`);
    });
  return {
    formS: round((formedMs - begunMs) / 1000),
    convergeS: round((performance.now() - formedMs) / 1000),
  };
}

/** Pairs of hosts, each way: those whose data path answers, and whose mesh connection stands where one is kept. */
export async function pairsOfHosts(lab: Lab): Promise<{ ok: number; total: number }> {
  let [ok, total] = [0, 0];
  for (const host of lab.hosts) {
    const probes = await host.ask<ProofStatus[]>("probe", "POST");
    const answers = new Set<string>(
      probes.flatMap(({ node, roundTripMs }) => (roundTripMs === undefined ? [] : [node])),
    );
    const others = await rows(host);
    total += others.length;
    ok += others.filter(
      ({ id, connected, dialled }) => answers.has(id) && (connected || !dialled),
    ).length;
  }
  return { ok, total };
}

async function rows(host: LabHost): Promise<Row[]> {
  return (await host.ask<Row[]>("nodes")).filter(({ self }) => !self);
}
