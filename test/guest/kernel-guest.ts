import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PREPARED_LAB, prepareLab } from "../inside/prepared-lab.ts";
import { Lab } from "../lab/lab.ts";
import { COMPILED } from "../support/lab-host.ts";
import { Guest, GuestLost, type KernelRelease } from "./guest.ts";

const REPOSITORY = join(import.meta.dirname, "../..");
const INSIDE = join(REPOSITORY, "test/inside");
const INSIDE_TEST = ".inside.test.ts";
const REPORT = "/tmp/report.json";

/** `ONLY=ipsec-ipv4` is for who works on that; the soak has a minute of new keys. */
const { ONLY, ROTATION_SECONDS = "10" } = process.env;

/** Two seconds at rest. */
const MODULES_LIMIT_MS = 300_000;

/** All of `test/inside`, by name. */
export const EVERY_INSIDE_TEST: readonly string[] = readdirSync(INSIDE)
  .filter((name) => name.endsWith(INSIDE_TEST))
  .map((name) => name.slice(0, -INSIDE_TEST.length));

/** Of vitest's JSON report: a file, and how its tests ended. */
interface FileReport {
  readonly name: string;
  readonly assertionResults: readonly { readonly status: string }[];
}

/** What runs `test/inside` in this repository's directory, here as in the guest. */
function command(lab: string | undefined, ...options: string[]): string {
  const environment = [
    "PATH=$PWD/node_modules/.bin:$PATH NO_COLOR=1",
    `NODE_COMPILE_CACHE=${COMPILED}`,
    `ROTATION_SECONDS=${ROTATION_SECONDS}`,
    ...(lab === undefined ? [] : [`${PREPARED_LAB}=${lab}`]),
  ];
  const vitest = `vitest run --config ${INSIDE}/vitest.config.ts`;
  return `env ${[...environment, vitest, ...options].join(" ")}`;
}

/**
 * WireGuard and ESP as one of Debian's kernels has them, which the machine's own may not: each of `names`, of
 * `test/inside`, is a test. `limitMs`: of all of them; one that hangs must not cost the whole run.
 */
export function kernelGuest(
  release: KernelRelease,
  names: readonly string[],
  limitMs: number,
): void {
  const files = names
    .filter((name) => ONLY === undefined || name.startsWith(ONLY))
    .map((name) => `${name}${INSIDE_TEST}`);
  // vitest takes no file for all of them.
  describe.skipIf(files.length === 0)(`on the kernel of Debian's ${release}`, () => {
    let lab: string | undefined;
    let guest: Guest;
    let output: string;
    let reports: readonly FileReport[] = [];

    beforeAll(async () => {
      if (files.some((name) => name.startsWith("agents."))) lab = await prepareLab();
      // Imports every file and runs no test: what vitest transforms and Node compiles is there for the guest.
      execFileSync("sh", ["-c", command(lab, "-t", "'^$'", ...files)], { cwd: REPOSITORY });
    }, 1_200_000);

    beforeAll(
      async () => {
        try {
          await run();
        } catch (error) {
          // Emulator or kernel: nothing was tested. A guest that never answered again has cost a run an hour.
          if (!(error instanceof GuestLost)) throw error;
          console.log(`${release}, once more after: ${error.message}`);
          await guest?.stop();
          await run();
        }
      },
      2 * limitMs + 1_800_000,
    );

    /** All files with one start of vitest, which takes longer there than most of them. */
    async function run(): Promise<void> {
      guest = await Guest.start(() => {}, "bare", release);
      // Loaded when they are first needed they would be waited for within others' time limits.
      const modules = "wireguard vxlan bridge veth nf_tables nft_meta_bridge nft_nat";
      await guest.exec(`modprobe -a ${modules}`, MODULES_LIMIT_MS);
      const reporters = `--reporter=verbose --reporter=json --outputFile.json=${REPORT}`;
      // On the console too, where who waits can see how far it is.
      const seen = "2>&1 | tee /dev/console";
      const script = `cd ${REPOSITORY} && ${command(lab, reporters, ...files, seen)}`;
      const { result, inside, outside } = await guest.clocks(() => guest.try(script, limitMs));
      output = `${result.output}\n${release}: ${inside.toFixed()} s by its own clock, ${outside.toFixed()} by the machine's`;
      console.log(output);
      const report = await guest.try(`cat ${REPORT}`);
      if (report.status === 0)
        reports = (JSON.parse(report.output) as { testResults: FileReport[] }).testResults;
    }

    afterAll(async () => {
      await guest?.stop();
      if (lab !== undefined) await Lab.down(lab);
    }, 60_000);

    test.each(files)("%s", (file) => {
      const tests = reports.find(({ name }) => basename(name) === file)?.assertionResults ?? [];
      expect(tests.length, output).toBeGreaterThan(0);
      expect(tests.filter(({ status }) => status !== "passed")).toEqual([]);
    });
  });
}
