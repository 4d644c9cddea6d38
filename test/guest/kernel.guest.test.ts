import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Guest } from "./guest.ts";

const REPOSITORY = join(import.meta.dirname, "../..");
const INSIDE = join(REPOSITORY, "test/inside");

/** WireGuard and ESP as Debian's kernel has them, which the machine's own may not. */
describe("on a kernel of Debian", { timeout: 600_000 }, () => {
  let guest: Guest;
  beforeAll(async () => {
    guest = await Guest.start(() => {}, "bare");
  }, 300_000);
  afterAll(async () => {
    await guest?.stop();
  }, 60_000);

  test.each(readdirSync(INSIDE).filter((name) => name.endsWith(".inside.test.ts")))(
    "%s",
    async (file) => {
      const { status, output } = await guest.try(
        `cd ${REPOSITORY} && PATH=$PWD/node_modules/.bin:$PATH NO_COLOR=1 vitest run --config ${INSIDE}/vitest.config.ts ${file}`,
      );
      console.log(output);
      expect(status, output).toBe(0);
    },
  );
});
