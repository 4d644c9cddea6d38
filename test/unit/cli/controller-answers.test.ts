import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Context, filesOf } from "../../../agent/cli/context.ts";
import { tokenCreate } from "../../../agent/cli/key-commands.ts";
import { nodeRemove } from "../../../agent/cli/node-commands.ts";
import { readdressWithController } from "../../../agent/cli/readdress-command.ts";
import { status } from "../../../agent/cli/status-command.ts";
import { readMember } from "../../../agent/membership/member.ts";
import {
  readIdentity,
  readMembership,
  writeMembership,
} from "../../../agent/membership/membership-files.ts";
import { recordOf } from "../../../controller/core/recovery.ts";
import { controllerFiles, writeController } from "../../../controller/files.ts";
import { controllerLock } from "../../../controller/lock-file.ts";
import { storedRecord } from "../../../controller/restoring.ts";
import { toBase64Url } from "../../../shared/base64url.ts";
import { Ip } from "../../../shared/ip.ts";
import { ProcessLock } from "../../../shared/node/process-lock.ts";
import { bare } from "../../../shared/node/routes.ts";
import { UnixHttpServer } from "../../../shared/node/unix-http.ts";
import { signState } from "../../../shared/trust.ts";
import { signedCluster } from "../../support/signed-cluster.ts";

/** An address that every host has. */
const NEW_ADDRESS = Ip.parse("127.0.0.1");

let context: Context;
let directory: string;
let lock: ProcessLock | undefined;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ovt-controller-answers-"));
  context = { dataDirectory: directory, runDirectory: directory, json: true };
});

afterEach(() => {
  lock?.release();
  lock = undefined;
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true });
});

/** As after `rm -rf /run/overlay-ts`: it lives, and has no socket. */
function controllerLives(): void {
  const taken = ProcessLock.take(controllerLock(directory), "the controller");
  if (!(taken instanceof ProcessLock)) throw new Error(taken.heldBy);
  lock = taken;
}

/** h1, with the cluster's controller. */
async function controllersHost(): Promise<void> {
  const { certificate, claims, controller, hosts, root, state } = await signedCluster();
  const files = filesOf(context);
  mkdirSync(files.directory, { recursive: true });
  writeFileSync(files.identity, `${toBase64Url(hosts[0].seed)}\n`);
  writeMembership(files, {
    format: 1,
    cluster: state.cluster,
    rootKey: toBase64Url(root.publicKey),
    claim: claims[0]!,
    state: await signState(controller, certificate, state),
  });
  await writeController(controllerFiles(directory), {
    rootPublicKey: root.publicKey,
    controllerSeed: controller.seed,
    certificate,
    record: recordOf(state),
  });
}

function readdress(): Promise<void> {
  const files = filesOf(context);
  const { node } = readIdentity(files);
  return readdressWithController(context, readMembership(files)!, node, { advertise: NEW_ADDRESS });
}

test.each<[string, () => Promise<void>]>([
  ["token create", () => tokenCreate(context, { ttl: "1h", uses: "1" })],
  ["node rm", () => nodeRemove(context, "h2")],
  ["node readdress", readdress],
])("`%s` says that the controller lives without its socket, and to restart it", async (_, run) => {
  await controllersHost();
  controllerLives();
  await expect(run()).rejects.toMatchObject({
    message: expect.stringMatching(
      /the controller, process \d+, runs on this host.*its socket is gone/,
    ) as string,
    next: expect.stringContaining("systemctl restart overlay-ts-controller") as string,
  });
});

test("what `node readdress` has changed holds, though the controller does not tell it yet", async () => {
  await controllersHost();
  controllerLives();
  await expect(readdress()).rejects.toThrow(/changed and signed here/);
  const { state } = await storedRecord(controllerFiles(directory));
  expect(state.controller.address).toBe(NEW_ADDRESS);
  const member = await readMember(filesOf(context));
  expect(member?.node.address).toBe(NEW_ADDRESS);
});

test("where no controller runs it is said where to run the command, or to start it", async () => {
  await controllersHost();
  controllerLives();
  lock?.release();
  lock = undefined;
  await expect(nodeRemove(context, "h2")).rejects.toMatchObject({
    message: "no controller runs on this host",
    next: expect.stringContaining("systemctl start overlay-ts-controller") as string,
  });
});

test("`status` on its host names it, and on another host nothing", async () => {
  const agent = new UnixHttpServer(join(directory, "agent.sock"), {
    "GET /v1/status": bare(() => Promise.resolve({ joined: false })),
  });
  await agent.start();
  const written: string[] = [];
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    written.push(String(text));
    return true;
  });
  try {
    await status(context, {});
    expect(JSON.parse(written.join(""))).not.toHaveProperty("controllerHere");
    written.length = 0;
    controllerLives();
    await status(context, {});
    expect(JSON.parse(written.join(""))).toMatchObject({
      controllerHere: { problem: { message: expect.stringContaining("its socket is gone") } },
    });
  } finally {
    await agent.stop();
  }
});
