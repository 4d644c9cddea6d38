import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab } from "../lab/lab.ts";
import { populate, proofText, prove, THOROUGH } from "../lab/proof.ts";

/** `npm run bench`: the lab's figures with the effort that a claim needs; `--json` for programs. */

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
  const proof = await prove(lab, THOROUGH, say);
  const json = process.argv.includes("--json");
  process.stdout.write(`${json ? JSON.stringify(proof, undefined, 2) : proofText(proof)}\n`);
} finally {
  await Lab.down(directory);
}
