import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const directory = mkdtempSync(join(tmpdir(), "ovt-cli-"));
const main = join(import.meta.dirname, "../../../agent/cli/main.ts");
afterAll(() => rmSync(directory, { recursive: true, force: true }));

interface Ended {
  readonly status: number;
  readonly said: string;
}

function run(args: readonly string[], variables: Record<string, string> = {}): Promise<Ended> {
  const env = {
    PATH: process.env["PATH"],
    OVERLAY_TS_DATA_DIR: directory,
    OVERLAY_TS_RUN_DIR: directory,
    ...variables,
  };
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env }, (error, _out, said) => {
      resolve({ status: error === null ? 0 : Number(error.code), said });
    });
  });
}

test.each<[string, number, RegExp]>([
  ["status --verbose", 1, /unknown option '--verbose'/],
  ["statsu", 1, /unknown command 'statsu'/],
  ["status app", 1, /too many arguments/],
  ["network create", 1, /missing required argument 'name'/],
  ["token create --uses many", 2, /not a number above zero: many/],
  ["token create --uses 0", 2, /not a number above zero: 0/],
  ["token create --ttl forever", 2, /not a duration: forever/],
  ["network create app -o mtu=1 -o mtu=2", 2, /mtu is given twice/],
  ["network create app -o =2", 2, /no name before =/],
])("%s", async (line, status, said) => {
  const ended = await run(line.split(" "));
  expect(ended.said).toMatch(said);
  expect(ended.status).toBe(status);
});

test("a variable that nobody knows", async () => {
  const ended = await run(["status"], { OVERLAY_TS_LOGLEVEL: "debug" });
  expect(ended.status).toBe(2);
  expect(ended.said).toMatch(/no environment variable OVERLAY_TS_LOGLEVEL\n {2}→ known are/);
});
