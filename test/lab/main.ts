import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { ENGINE_KINDS, type EngineKind } from "../support/engine-root.ts";
import { formed } from "./forming.ts";
import { Lab } from "./lab.ts";
import {
  NETWORK,
  populate,
  type Proof,
  proofText,
  prove,
  proveWithoutDocker,
  QUICK,
  savedProof,
} from "./proof.ts";

/** `npm run lab`: a cluster of hosts inside this machine, and what it measured of itself. */

const DIRECTORY = process.env["OVERLAY_TS_LAB_DIR"] ?? "/var/tmp/overlay-ts-lab";

const begunMs = performance.now();
const say = (text: string): void => {
  const seconds = ((performance.now() - begunMs) / 1000).toFixed(1).padStart(6);
  process.stderr.write(`lab ${seconds} s  ${text}\n`);
};

const program = new Command("lab")
  .description("hosts inside this machine, each with engine and agent")
  .enablePositionalOptions();

program
  .command("up", { isDefault: true })
  .description("start anew, make a network, run containers, measure")
  .option("--hosts <count>", "how many", "3")
  .option("--no-docker", "agents only")
  .option("--engine <version>", "20.10, 26.1, 28.5, or one for each host: 20.10,26.1,28.5", engines)
  .action(async ({ hosts, docker, engine }: UpOptions) => {
    const lab = await Lab.up({
      directory: DIRECTORY,
      hosts: Number(hosts),
      docker,
      ...(engine === undefined ? {} : { engines: engine }),
      say,
    });
    const proof = await measured(lab, docker);
    writeFileSync(join(DIRECTORY, "proof.json"), `${JSON.stringify(proof, undefined, 2)}\n`);
    process.stdout.write(`\n${proofText(proof)}\n\n`);
    say(
      `the lab stays up: \`npm run lab -- exec h2 docker ps\`, \`-- status\`, \`-- down\`${docker ? `; the network is ${NETWORK}` : ""}`,
    );
    const whole = [proof.pairsOk, proof.pairsByNameOk ?? proof.pairsTotal];
    if (whole.some((count) => count !== proof.pairsTotal)) process.exitCode = 1;
  });

program
  .command("exec <host> [command...]")
  .description("run a command on a host, e.g. `exec h2 docker ps`")
  .passThroughOptions()
  .action((name: string, command: string[]) => {
    const host = Lab.find(DIRECTORY).host(name);
    // The real CLI: what stands first in this machine's PATH may be another client.
    const [first = "bash", ...rest] = command;
    const real =
      first === "docker" || first === "docker-compose"
        ? host.withEngine(`/usr/bin/${first}`)
        : first === "overlay-ts"
          ? [join(import.meta.dirname, "../../deploy/overlay-ts")]
          : [first];
    const [file, args] = host.argv([...real, ...rest]);
    process.exitCode = spawnSync(file, args, { stdio: "inherit", env: host.env() }).status ?? 1;
  });

program
  .command("status")
  .description("of every host")
  .action(async () => {
    for (const host of Lab.find(DIRECTORY).hosts)
      process.stdout.write(`${await host.statusText()}\n`);
  });

program
  .command("logs <host> [service]")
  .description("of agent, controller or docker")
  .action((name: string, service = "agent") => {
    process.stdout.write(Lab.find(DIRECTORY).host(name).log(service));
  });

program
  .command("proof")
  .description("what was measured when the lab came up")
  .option("--json", "as JSON")
  .action(({ json }: { json?: boolean }) => {
    const proof = savedProof(DIRECTORY);
    process.stdout.write(
      `${json === true ? JSON.stringify(proof, undefined, 2) : proofText(proof)}\n`,
    );
  });

program
  .command("verify")
  .description("compare kernel, Docker and tables on every host")
  .action(async () => {
    for (const host of Lab.find(DIRECTORY).hosts)
      await host.overlay("verify").then(
        (text) => process.stdout.write(`${host.name}: ${text}`),
        (error: { stdout?: string; stderr?: string }) => {
          process.exitCode = 1;
          process.stdout.write(`${host.name}: ${error.stdout ?? ""}${error.stderr ?? ""}`);
        },
      );
  });

program
  .command("down")
  .description("end everything of it, also after a crash")
  .action(async () => {
    await Lab.down(DIRECTORY);
    say("down");
  });

async function measured(lab: Lab, docker: boolean): Promise<Proof> {
  if (!docker) return proveWithoutDocker(lab, await formed(lab, say), QUICK);
  await lab.form(say);
  await populate(lab, say);
  return prove(lab, QUICK, say);
}

interface UpOptions {
  readonly hosts: string;
  readonly docker: boolean;
  readonly engine?: EngineKind[];
}

function engines(text: string): EngineKind[] {
  return text.split(",").map((version) => {
    const kind = ENGINE_KINDS.find((known) => known === version);
    if (kind === undefined) throw new InvalidArgumentError(`known are ${ENGINE_KINDS.join(", ")}.`);
    return kind;
  });
}

if (process.geteuid?.() !== 0) {
  process.stderr.write("lab: run as root: it makes network namespaces\n");
  process.exit(1);
}
await program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`lab: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
