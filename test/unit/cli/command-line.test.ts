import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { type Ended, overlayTs } from "../../support/command-line.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-cli-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const run = (args: readonly string[], variables: Record<string, string> = {}): Promise<Ended> =>
  overlayTs(directory, args, variables).ended;

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
  ["names app web", 1, /too many arguments/],
  ["names --al", 1, /unknown option '--al'/],
  ["names", 4, /nobody answers on .*agent\.sock/],
  ["network inspect app", 4, /nobody answers on .*agent\.sock/],
  ["events app", 1, /too many arguments/],
  ["events --since", 1, /argument missing/],
  ["events --since yesterday", 2, /not a duration: yesterday/],
  ["events --since 10", 2, /not a duration: 10/],
  ["controller recover", 1, /required option '--from-mesh'/],
  ["controller promote", 1, /required option '--root-key <file>'/],
  ["controller backup", 1, /missing required argument 'file'/],
  ["controller backups x", 1, /too many arguments for 'controller'/],
  ["events -f", 4, /nobody answers on .*agent\.sock/],
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
