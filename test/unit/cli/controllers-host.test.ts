import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { leave } from "../../../agent/cli/leaving.ts";
import { refuseControllersHost } from "../../../agent/cli/controllers-host.ts";
import {
  type AgentFiles,
  agentFiles,
  ensureIdentity,
  writeMembership,
} from "../../../agent/membership/membership-files.ts";
import { SavedTables } from "../../../agent/replication/saved-tables.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { SqliteStore } from "../../../agent/store/sqlite-store.ts";
import { recordOf } from "../../../controller/core/recovery.ts";
import { controllerFiles, writeController } from "../../../controller/files.ts";
import { toBase64Url } from "../../../shared/base64url.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { bare, byQuery } from "../../../shared/node/routes.ts";
import { UnixHttpServer } from "../../../shared/node/unix-http.ts";
import { revisionOf } from "../../../shared/revision.ts";
import { signCertificate, signState } from "../../../shared/trust.ts";
import { type SignedCluster, signedCluster } from "../../support/signed-cluster.ts";

let directory: string;
let files: AgentFiles;
let cluster: SignedCluster;
const context = () => ({ dataDirectory: directory, runDirectory: directory });

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "ovt-controllers-host-"));
  files = agentFiles(directory);
  cluster = await signedCluster();
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** h1 is the controller's host. */
async function member(k: number, state = cluster.state): Promise<void> {
  const { certificate, claims, controller, root } = cluster;
  mkdirSync(files.directory, { recursive: true });
  writeMembership(files, {
    format: 1,
    cluster: state.cluster,
    rootKey: toBase64Url(root.publicKey),
    claim: claims[k - 1]!,
    state: await signState(controller, certificate, state),
  });
  ensureIdentity(files);
}

async function controllerHere(state = cluster.state, restoredAtMs?: number): Promise<void> {
  const { certificate, controller, root } = cluster;
  await writeController(controllerFiles(directory), {
    rootPublicKey: root.publicKey,
    controllerSeed: controller.seed,
    certificate,
    record: { ...recordOf(state), ...(restoredAtMs === undefined ? {} : { restoredAtMs }) },
  });
}

/** As `promote` on h2 says it to this host's agent. */
async function heardOfPromotion(): Promise<void> {
  const { controller, hosts, root, state } = cluster;
  const next: ClusterState = {
    ...state,
    revision: revisionOf(1, 0),
    controller: { ...state.controller, node: hosts[1].node },
  };
  const claim = { cluster: state.cluster, controller: controller.node, generation: 1 };
  const signed = await signState(controller, await signCertificate(root, claim), next);
  const disk = new Disk(new SqliteStore(files.database));
  new SavedTables(disk).saveState(signed);
  disk.close();
}

const refused = () => refuseControllersHost(context());
const PROMOTE = { code: "FORBIDDEN", next: expect.stringMatching(/controller promote/) as string };

test("the controller's host is refused, with its controller's data and without", async () => {
  await member(1);
  await expect(refused()).rejects.toMatchObject(PROMOTE);
  await controllerHere();
  await expect(refused()).rejects.toMatchObject(PROMOTE);
});

test("the only host is told what ends the cluster", async () => {
  const { state } = cluster;
  await member(1, { ...state, nodes: state.nodes.slice(0, 1), blocks: [] });
  await expect(refused()).rejects.toMatchObject({
    code: "FORBIDDEN",
    next: expect.stringMatching(/deploy\/uninstall\.sh --purge --force/) as string,
  });
});

test("another host leaves, and so does the controller's when another has taken over", async () => {
  await member(2);
  await refused();
  await member(1);
  await controllerHere();
  await heardOfPromotion();
  await refused();
});

test("a controller that was restored here counts before it has met the hosts", async () => {
  const { hosts, state } = cluster;
  await member(2, { ...state, revision: state.revision + 1 });
  const here = { ...state.controller, node: hosts[1].node };
  await controllerHere({ ...state, controller: here }, 1);
  await expect(refused()).rejects.toMatchObject(PROMOTE);
});

test("a damaged membership is one to leave with, unless the controller's data are here", async () => {
  await member(1);
  writeFileSync(files.membership, "{");
  await refused();
  await controllerHere();
  await expect(refused()).rejects.toMatchObject(PROMOTE);
});

test("refused, `leave` asks the agent for nothing; by force it does, as on a copy of the machine", async () => {
  await member(1);
  await controllerHere();
  const asked: (string | undefined)[] = [];
  const agent = new UnixHttpServer(join(directory, "agent.sock"), {
    "GET /v1/life": bare(() => Promise.resolve({ state: "member" })),
    "POST /v1/leave": byQuery(["force"], ({ force }) => {
      asked.push(force);
      return Promise.resolve({ cutOff: [], stays: [] });
    }),
  });
  await agent.start();
  const out = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  const options = { docker: "/nowhere", pluginSocket: "/nowhere" };
  try {
    await expect(leave(context(), options)).rejects.toMatchObject(PROMOTE);
    expect(asked).toEqual([]);
    expect(existsSync(files.identity)).toBe(true);
    await leave(context(), { ...options, force: true });
    expect(asked).toEqual(["true"]);
  } finally {
    out.mockRestore();
    await agent.stop();
  }
});
