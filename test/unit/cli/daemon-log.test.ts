import { spawnSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { daemonLog } from "../../../agent/cli/daemon-log.ts";
import { Libp2pMesh } from "../../../agent/replication/gossip/libp2p-mesh.ts";
import { LinuxNameServer } from "../../../agent/names/server/linux-name-server.ts";
import { Controller } from "../../../controller/controller.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { sha256, systemClock } from "../../../shared/node/system.ts";
import type { Log } from "../../../shared/ports.ts";
import { app, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { signedCluster } from "../../support/signed-cluster.ts";

function logged(name: string) {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void =>
    void lines.push(JSON.parse(line) as Record<string, unknown>);
  return { log: daemonLog(name, "info", { write }), lines };
}

test.each(["agent", "controller"])(
  "%s: an error in any field is written with message, code and causes",
  (name) => {
    const { log, lines } = logged(name);
    const cause = new Error("the disk is gone");
    const error = new OverlayError(
      { code: "STORE", message: "cannot read", op: "read" },
      { cause },
    );
    log.error({ error, kind: "state" }, "request failed");
    log.warn({ why: new AggregateError([cause], "both"), err: cause, port: 7952 }, "not so");
    log.debug({ error }, "below the level");
    expect(lines).toEqual([
      expect.objectContaining({
        name,
        msg: "request failed",
        kind: "state",
        error: expect.objectContaining({
          message: "cannot read",
          code: "STORE",
          op: "read",
          stack: expect.stringContaining("daemon-log.test.ts"),
          cause: expect.objectContaining({ message: "the disk is gone" }),
        }),
      }),
      expect.objectContaining({
        port: 7952,
        err: expect.objectContaining({ message: "the disk is gone" }),
        why: expect.objectContaining({
          message: "both",
          aggregateErrors: [expect.objectContaining({ message: "the disk is gone" })],
        }),
      }),
    ]);
  },
);

test("what fails inside of the controller is in its log with the reason", async () => {
  const { controller: peer, certificate, root } = await signedCluster();
  const { log, lines } = logged("controller");
  const store = {
    read: () => Promise.reject(new Error("no row", { cause: new Error("EIO") })),
    write: () => Promise.resolve(true),
    close: () => {},
  };
  const controller = new Controller(
    { controller: peer, certificate, rootKey: root.publicKey },
    { store, log, clock: systemClock, random: seededRandom(1), hasher: sha256 },
  );
  await controller.handle(nodeId(2), { v: 1, kind: "state", revision: 0 });
  expect(lines).toMatchObject([
    { msg: "request failed", err: { message: "no row", cause: { message: "EIO" } } },
  ]);
});

/** Faults of ours that the threads do not expect. */
const NO_OPTIONS = undefined as never;
const UNREADABLE = [
  { kind: "network", info: { network: app.id } },
  { kind: "holders", network: app.id, put: [{ endpoint: "no names" }], remove: [] },
] as never;

test.each([
  {
    thread: "mesh",
    failure: "the mesh's thread failed; it starts again",
    fail: (log: Log) => {
      const mesh = new Libp2pMesh(NO_OPTIONS, log);
      const handlers = {
        message() {},
        request: () => Promise.reject(new Error("none")),
        connected() {},
        disconnected() {},
      };
      return { failed: mesh.start(handlers), stop: () => mesh.stop() };
    },
  },
  {
    thread: "names",
    failure: "the name server's thread failed; it starts again",
    fail: (log: Log) => {
      const server = new LinuxNameServer({}, log);
      const failed = server.start().then(() => server.change(UNREADABLE));
      return { failed, stop: () => server.stop("letGo") };
    },
  },
])("$thread: why its thread failed is in the agent's log", async ({ failure, fail }) => {
  const { log, lines } = logged("agent");
  const { failed, stop } = fail(log);
  await failed.catch(() => {});
  const found = () => lines.find(({ msg }) => msg === failure);
  await expect.poll(found, { timeout: 15_000 }).toMatchObject({
    err: { type: "TypeError", message: expect.any(String), stack: expect.stringContaining("at ") },
  });
  await stop();
});

/** In a process of its own, whose stdout takes nothing. */
const LOGS = `
import { daemonLog } from ${JSON.stringify(join(import.meta.dirname, "../../../agent/cli/daemon-log.ts"))};
const log = daemonLog("agent", "info");
let lines = 0;
setInterval(() => {
  log.info({}, "a line");
  if (++lines < 5) return;
  process.stderr.write("runs on");
  process.exit(0);
}, 20);
`;

test("a log that a full disk does not take ends nobody, and keeps nobody from ending", () => {
  const options = ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", LOGS];
  const full = openSync("/dev/full", "w");
  const { stderr, status, signal } = spawnSync(process.execPath, options, {
    encoding: "utf8",
    stdio: ["ignore", full, "pipe"],
    timeout: 20_000,
    killSignal: "SIGKILL",
  });
  closeSync(full);
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: "runs on" });
});
