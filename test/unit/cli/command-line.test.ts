import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { type Ended, overlayTs } from "../../support/command-line.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-cli-"));
const noToken = join(directory, "no-token");
writeFileSync(noToken, "\n");
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const run = (args: readonly string[], variables: Record<string, string> = {}): Promise<Ended> =>
  // What the first start compiled is there for the others.
  overlayTs(directory, args, { NODE_COMPILE_CACHE: join(directory, "compiled"), ...variables })
    .ended;

test.each<[string, number, RegExp]>([
  ["status --verbose", 2, /unknown option '--verbose'/],
  ["statsu", 2, /unknown command 'statsu'/],
  ["status app", 2, /too many arguments/],
  ["network create", 2, /missing required argument 'name'/],
  ["token create --uses many", 2, /not a number above zero: many/],
  ["token create --uses 0", 2, /not a number above zero: 0/],
  ["token create --ttl forever", 2, /not a duration: forever/],
  ["network create app -o mtu=1 -o mtu=2", 2, /mtu is given twice/],
  ["network create app -o =2", 2, /no name before =/],
  ["names app web", 2, /too many arguments/],
  ["names --al", 2, /unknown option '--al'/],
  ["names", 4, /nobody answers on .*agent\.sock/],
  ["network inspect app", 4, /nobody answers on .*agent\.sock/],
  ["events app", 2, /too many arguments/],
  ["events --since", 2, /argument missing/],
  ["events --since yesterday", 2, /not a duration: yesterday/],
  ["events --since 10", 2, /not a duration: 10/],
  ["controller recover", 2, /required option '--from-mesh'/],
  ["controller promote", 2, /required option '--root-key <file>'/],
  ["controller backup", 2, /missing required argument 'file'/],
  ["controller backups x", 2, /too many arguments for 'controller'/],
  [
    "join --token-file /nowhere 198.51.100.1",
    2,
    /--token-file \/nowhere .*: it is not there\n.*→ /,
  ],
  ["join --token-file / 198.51.100.1", 2, /--token-file \/ .*: it is a directory\n.*→ /],
  [
    "join --token x --name -h1- 198.51.100.1",
    2,
    /--name -h1- cannot be a host's name\n.*→ give 1 to 64/,
  ],
  ["init --name é", 2, /cannot be a host's name/],
  ["join 198.51.100.1", 2, /a token is needed to join\n.*→ /],
  [
    "join --token x --token-file /nowhere 198.51.100.1",
    2,
    /^overlay-ts: --token and --token-file are both given\n.*→ /,
  ],
  [
    "join --token x 198.51.100.1",
    2,
    /^overlay-ts: --token is not a token of overlay-ts.*\n.*→ copy/,
  ],
  [
    `join --token-file ${noToken} 198.51.100.1`,
    2,
    new RegExp(`^overlay-ts: what --token-file ${noToken} holds is not a token.*\n.*→ copy`),
  ],
  ["join --token x host-1", 2, /not an IP address: host-1\n.*→ /],
  ["controller restore /nowhere", 5, /the backup \/nowhere cannot be read: it is not there\n.*→ /],
  ["leave", 3, /not a member/],
  ["leave --force", 3, /not a member/],
  ["withdraw", 4, /no agent runs.*\n.*→ start it/],
  ["events -f", 4, /nobody answers on .*agent\.sock/],
])("%s", async (line, status, said) => {
  const ended = await run(line.split(" "));
  expect(ended.said).toMatch(said);
  expect(ended.status).toBe(status);
});

test("help shows no values of the program's own", async () => {
  const { status, out } = await run(["network", "create", "--help"]);
  expect(status).toBe(0);
  expect(out).toMatch(/--label <name=value> +label$/m);
});

test("a typo costs three lines, not the whole help", async () => {
  expect((await run(["statsu"])).said).toBe(
    "overlay-ts: unknown command 'statsu'\n(Did you mean status?)\n  → `overlay-ts --help` lists the commands\n",
  );
  expect((await run(["network", "create"])).said).toBe(
    "overlay-ts: missing required argument 'name'\n  → usage: overlay-ts network create <name> [options]; `--help` has all of them\n",
  );
});

test("the help has groups and examples", async () => {
  const { out } = await run(["--help"]);
  expect(out).toMatch(/^Every day:\n {2}status .*^The cluster:\n {2}init .*^Examples:\n/ms);
  expect(out).not.toMatch(/^Commands:\n {2}(?!help)/m);
});

test("a variable that nobody knows", async () => {
  const ended = await run(["status"], { OVERLAY_TS_LOGLEVEL: "debug" });
  expect(ended.status).toBe(2);
  expect(ended.said).toMatch(/no environment variable OVERLAY_TS_LOGLEVEL\n {2}→ known are/);
});
