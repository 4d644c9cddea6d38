import { beforeEach, expect, test } from "vitest";
import { Controller } from "../../../controller/controller.ts";
import { admitNode } from "../../../controller/core/admission.ts";
import { createNetwork } from "../../../controller/core/networks.ts";
import { type ControllerRecord, newCluster } from "../../../controller/core/record.ts";
import { promoted, recovered } from "../../../controller/core/recovery.ts";
import { MemoryStore } from "../../fakes/memory-controller-store.ts";
import type { ControlRequest } from "../../../controller/wire/messages.ts";
import { ClusterId } from "../../../shared/ids.ts";
import { Ip } from "../../../shared/ip.ts";
import { identityFromSeed } from "../../../shared/node/identity.ts";
import { sha256, systemClock } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { type KeyPair, signCertificate, signState } from "../../../shared/trust.ts";
import { node, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { storeRecord } from "../../support/stored-record.ts";

/** A controller decides nothing while it may have forgotten something, whatever it is asked. */

const identity = (k: number) => identityFromSeed(new Uint8Array(32).fill(k));
const [root, peer, host, next] = [identity(1), identity(2), identity(3), identity(4)];
const address = Ip.parse("198.51.100.1");
const context = { wallMs: 0, random: seededRandom(1) };
const plain = { subnets: [], internal: false, attachable: true, labels: {}, driverOptions: {} };
const empty = newCluster(
  { controllerPeer: peer.node, controllerNode: host.node, address },
  context,
);
const record = admitNode(empty, host.node, node(1), undefined, 0).record;
const newer = createNetwork(record, host.node, { ...plain, name: "new" }, context).record;
const { cluster, revision } = record.state;

const certify = (controller: KeyPair & { node: typeof peer.node }, claim = {}) =>
  signCertificate(root, { cluster, controller: controller.node, ...claim });
const certificate = await certify(peer);
const signedNewer = await signState(peer, certificate, newer.state);

const create: ControlRequest = { v: 1, kind: "createNetwork", network: { ...plain, name: "app" } };
const fetch: ControlRequest = { v: 1, kind: "state", revision: 0 };

let store: MemoryStore;

beforeEach(() => {
  store = new MemoryStore();
});

async function controllerOf(stored: ControllerRecord): Promise<Controller> {
  await storeRecord(store, stored);
  const keys = { controller: peer, certificate, rootKey: root.publicKey };
  const random = seededRandom(2);
  return new Controller(keys, {
    store,
    clock: systemClock,
    random,
    hasher: sha256,
    log: silentLog,
  });
}

/** Nothing is signed, and nothing is written. */
async function decidesNothing(controller: Controller, why: RegExp): Promise<void> {
  const told: unknown[] = [];
  controller.onState(() => void told.push(undefined));
  const before = await store.read();
  for (const request of [create, fetch])
    expect(await controller.handle(host.node, request)).toMatchObject({
      kind: "failed",
      failure: { code: "STALE", message: expect.stringMatching(why) as string },
    });
  await expect(controller.createToken({ ttlMs: 1000, uses: 1 })).rejects.toThrow(why);
  await expect(controller.removeNode("h1")).rejects.toThrow(why);
  await expect(controller.signedState()).rejects.toThrow(why);
  await expect(controller.announce()).rejects.toThrow(why);
  expect((await controller.problem())?.message).toMatch(why);
  expect(await store.read()).toEqual(before);
  expect(told).toEqual([]);
}

test("one that has all serves", async () => {
  const controller = await controllerOf(record);
  expect(await controller.problem()).toBeUndefined();
  expect(await controller.handle(host.node, create)).toMatchObject({ kind: "network" });
});

test("restored from a backup, until it has recovered; then who watches is told", async () => {
  const restored = { ...record, restoredAtMs: 1 };
  const controller = await controllerOf(restored);
  await decidesNothing(controller, /restored from a backup/);
  await controllerOf(recovered(restored, newer.state, context));
  const told: unknown[] = [];
  controller.onState(() => void told.push(undefined));
  await controller.announce();
  expect(told).toHaveLength(1);
  expect(await controller.handle(host.node, create)).toMatchObject({ kind: "network" });
});

test("shown a newer state of its own, until it knows that too", async () => {
  const controller = await controllerOf(record);
  await controller.met(signedNewer);
  await decidesNothing(controller, /its data are old/);
  await controllerOf(recovered(record, newer.state, context));
  expect(await controller.problem()).toBeUndefined();
});

test("shown a state of the one that took over, for good", async () => {
  const controller = await controllerOf(record);
  const place = { node: host.node, address: Ip.parse("198.51.100.7"), peerId: next.node };
  const { state } = promoted(record, record.state, { generation: 1, controller: place }, context);
  await controller.met(await signState(next, await certify(next, { generation: 1 }), state));
  await decidesNothing(controller, /198\.51\.100\.7 has taken over/);
});

test("a host that holds more is refused, and only that host: its word is no proof", async () => {
  const controller = await controllerOf(record);
  const asked = await controller.handle(host.node, { ...create, holds: revision + 1 });
  expect(asked).toMatchObject({ kind: "failed", failure: { code: "STALE" } });
  const fetched = await controller.handle(host.node, { ...fetch, revision: revision + 1 });
  expect(fetched).toMatchObject({ kind: "failed", failure: { code: "STALE" } });
  expect(await controller.problem()).toBeUndefined();
  expect(await controller.handle(host.node, { ...create, holds: revision })).toMatchObject({
    kind: "network",
  });
});

test("what is not signed by this cluster stops it as little as what is old", async () => {
  const controller = await controllerOf(newer);
  await controller.met(await signState(peer, certificate, record.state));
  const elsewhere = { ...newer.state, cluster: ClusterId.parse("e".repeat(32)), revision: 99 };
  const foreign = await certify(peer, { cluster: elsewhere.cluster });
  await controller.met(await signState(peer, foreign, elsewhere));
  const forged = await signState(next, certificate, { ...newer.state, revision: 99 });
  await expect(controller.met(forged)).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
  expect(await controller.problem()).toBeUndefined();
});

/** As after a controller's data were put back: the same revision, and another network. */
const other = {
  ...record.state,
  networks: record.state.networks.map((network) => ({ ...network, keyEpoch: 7 })),
  revoked: [nodeId(9)],
};

test("shown another state of its own revision, until it has gone beyond it; which of the two wins makes no difference", async () => {
  const controller = await controllerOf(record);
  await controller.met(await signState(peer, certificate, record.state));
  expect(await controller.problem()).toBeUndefined();
  await controller.met(await signState(peer, certificate, other));
  await decidesNothing(controller, /another state of revision/);
  await controllerOf(recovered(record, undefined, context));
  expect(await controller.problem()).toBeUndefined();
});
