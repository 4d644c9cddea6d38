import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PREPARED_LAB, prepareLab } from "../inside/prepared-lab.ts";
import { Lab } from "../lab/lab.ts";
import { Guest } from "./guest.ts";

const REPOSITORY = join(import.meta.dirname, "../..");
const INSIDE = join(REPOSITORY, "test/inside");

/** `npm run soak` has hours. */
const SOAK = process.env["SOAK"] !== undefined;

/** Of `test/inside`: all of it on one kernel, on the other the tunnels' traffic; in the soak, their keys too. */
const KERNELS = [
  { release: "bookworm", files: readdirSync(INSIDE).filter((name) => isTest(name)) },
  {
    release: "trixie",
    files: [
      "ipsec-ipv4",
      "wireguard-traffic",
      ...(SOAK ? ["ipsec-ipv6", "ipsec-keys", "ipsec-contract", "wireguard-contract"] : []),
    ].map((name) => `${name}.inside.test.ts`),
  },
] as const;

function isTest(name: string): boolean {
  return name.endsWith(".inside.test.ts");
}

/** What tests inside are told by who starts them here. */
const { ROTATION_SECONDS = "10" } = process.env;

let lab: string | undefined;
beforeAll(async () => {
  lab = await prepareLab();
}, 300_000);
afterAll(async () => {
  if (lab !== undefined) await Lab.down(lab);
});

/** WireGuard and ESP as Debian's kernels have them, which the machine's own may not. */
describe.each(KERNELS)(
  "on the kernel of Debian's $release",
  { timeout: 1_800_000 },
  ({ release, files }) => {
    let guest: Guest;
    beforeAll(async () => {
      guest = await Guest.start(() => {}, "bare", release);
      // Loaded when they are first needed they would be waited for within others' time limits.
      await guest.exec("modprobe -a wireguard vxlan bridge veth nf_tables nft_meta_bridge nft_nat");
    }, 300_000);
    afterAll(async () => {
      await guest?.stop();
    }, 60_000);

    test.each(files)("%s", async (file) => {
      const { status, output } = await guest.try(
        [
          `cd ${REPOSITORY}`,
          `export PATH=$PWD/node_modules/.bin:$PATH NO_COLOR=1`,
          `export ROTATION_SECONDS=${ROTATION_SECONDS} ${PREPARED_LAB}=${lab}`,
          `vitest run --config ${INSIDE}/vitest.config.ts ${file}`,
        ].join(" && "),
      );
      console.log(output);
      expect(status, output).toBe(0);
    });
  },
);
