import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { filesOf } from "../../../agent/cli/context.ts";
import { UnixHttpServer } from "../../../shared/node/unix-http.ts";
import { overlayTs } from "../../support/command-line.ts";

/** A host where agent and controller run, and a user of it who is not root. */

const directory = mkdtempSync(join(tmpdir(), "ovt-not-root-"));
const compiled = join(directory, "compiled");
const sockets = ["agent", "controller"].map((name) => join(directory, `${name}.sock`));
const servers = sockets.map((socket) => new UnixHttpServer(socket, {}));

/** Who runs the tests as root becomes nobody, who may read the checkout wherever it lies, and write nothing. */
const asUser =
  process.geteuid?.() === 0
    ? [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
      ]
    : [];

beforeAll(async () => {
  chmodSync(directory, 0o711);
  mkdirSync(compiled);
  chmodSync(compiled, 0o777);
  for (const server of servers) await server.start();
  // Nor are they for whom they belong to, where that is who runs the tests.
  for (const socket of sockets) chmodSync(socket, 0);
  const {
    directory: data,
    membership,
    identity,
  } = filesOf({
    dataDirectory: directory,
    runDirectory: directory,
  });
  mkdirSync(data, { mode: 0o700 });
  for (const file of [membership, identity]) writeFileSync(file, "", { mode: 0o600 });
});

afterAll(async () => {
  for (const server of servers) await server.stop();
  rmSync(directory, { recursive: true });
});

const SOCKET =
  /^overlay-ts: permission denied: .*\.sock is open to root alone\n {2}→ run it as root: `sudo/m;
const FILES =
  /^overlay-ts: permission denied: this command .* root alone\n {2}→ run it as root: `sudo/m;

test.each([
  ["status", SOCKET],
  ["events --follow", SOCKET],
  ["node rm h1", SOCKET],
  ["node readdress", FILES],
  ["network inspect app", SOCKET],
  ["key schedule", SOCKET],
  ["join --token-file /nowhere 198.51.100.1", FILES],
  ["leave", FILES],
  ["controller backup -", FILES],
  ["controller recover --from-mesh", FILES],
  ["agent", FILES],
])("%s", async (line, said) => {
  const variables = { NODE_COMPILE_CACHE: compiled };
  const ended = await overlayTs(directory, line.split(" "), variables, asUser).ended;
  expect(ended.said).toMatch(said);
  expect(ended).toMatchObject({ status: 7, out: "" });
});
