import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab } from "../lab/lab.ts";
import type { LabHost } from "../support/lab-host.ts";
import { NETWORK, networkId, populate, proofText, prove, THOROUGH } from "../lab/proof.ts";
import { besideSwarm, besideSwarmText, type SwarmEffort } from "./beside-swarm.ts";

/**
 * `npm run bench`: the lab's figures with the effort that a claim needs, then Swarm's overlay beside us on the same
 * engines (`--swarm`: that alone); `--json` for programs.
 */

const BESIDE_SWARM: SwarmEffort = { swarmRounds: 100, swarmPairs: 9, swarmSeconds: 2 };

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-bench-"));
const begunMs = performance.now();
const say = (text: string): void => {
  const seconds = ((performance.now() - begunMs) / 1000).toFixed(1).padStart(6);
  process.stderr.write(`bench ${seconds} s  ${text}\n`);
};

try {
  const lab = await Lab.up({ directory, hosts: 3, docker: true, say });
  await lab.form(say);
  await populate(lab, say);
  const proof = process.argv.includes("--swarm") ? undefined : await prove(lab, THOROUGH, say);
  const id = await networkId(lab, NETWORK);
  const ours = {
    name: NETWORK,
    netns: (host: LabHost): string => host.path(`/run/overlay-ts/netns/${id}`),
  };
  const swarm = await besideSwarm(lab, ours, BESIDE_SWARM, say);
  const text = process.argv.includes("--json")
    ? JSON.stringify({ ...proof, swarm }, undefined, 2)
    : [...(proof === undefined ? [] : [proofText(proof)]), besideSwarmText(swarm)].join("\n");
  process.stdout.write(`${text}\n`);
} finally {
  await Lab.down(directory);
}
