import { afterEach, expect, test } from "vitest";
import type { HostDocument } from "../../../shared/documents.ts";
import {
  ed25519Signer,
  ed25519Verifier,
  sha256,
  systemClock,
  systemTimers,
} from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { verifyHead, verifyState } from "../../../shared/trust.ts";
import type { Mesh, MeshHandlers } from "../../../agent/replication/gossip/port.ts";
import { Replication } from "../../../agent/replication/replication.ts";
import { SavedTables } from "../../../agent/replication/saved-tables.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { signedCluster, signedHost } from "../../support/signed-cluster.ts";

const cluster = await signedCluster();
const running: Replication[] = [];
afterEach(async () => {
  for (const replication of running.splice(0)) await replication.stop();
});

/** Host `k`, with these documents on its disk; what it asks, the other answers. */
async function hostWith(
  k: number,
  documents: readonly HostDocument[],
  ask: (bytes: Uint8Array) => Promise<Uint8Array>,
) {
  const self = cluster.hosts[k - 1]!;
  const handlers = Promise.withResolvers<MeshHandlers>();
  const mesh: Mesh = {
    start: async (given) => handlers.resolve(given),
    admit: () => {},
    wantPeers: () => {},
    join: async () => {},
    leave: async () => {},
    publish: async () => {},
    request: (_, bytes) => ask(bytes),
    connections: () => [],
    counters: async () => ({}),
    otherVersions: async () => [],
    owesSinceMs: () => undefined,
    stop: async () => {},
  };
  const saved = new SavedTables(new Disk(new MemoryStore()));
  for (const document of documents) saved.saveHost(document);
  const replication = new Replication(self.node, {
    mesh,
    saved,
    clock: systemClock,
    timers: systemTimers,
    random: seededRandom(k),
    hasher: sha256,
    signer: ed25519Signer(self.seed),
    verifier: ed25519Verifier(),
    log: silentLog,
    verifyState: (signed) => verifyState(cluster.root.publicKey, signed),
    verifyHead: (signed) => verifyHead(cluster.root.publicKey, signed),
    answerKeys: () => Promise.reject(new Error("nobody asks")),
  });
  running.push(replication);
  await replication.restore(cluster.signed);
  await replication.start();
  return { node: self.node, replication, saved, handlers: await handlers.promise };
}

test("what a listener has this host say is kept after what it was told of, in the order of versions", async () => {
  const [one, two] = cluster.hosts;
  const ofOne = (seq: number) => signedHost(one, 1, seq);
  // h1's disk is older than what h2 has heard from h1, and h2 has news of its own, which comes first.
  const other = await hostWith(2, [signedHost(two, 2, 2), ofOne(9)], () => new Promise(() => {}));
  const host = await hostWith(1, [ofOne(1), signedHost(two, 2, 1)], (bytes) =>
    other.handlers.request(one.node, bytes),
  );
  const { replication, saved } = host;
  const facts = { ...ofOne(1), bootId: "now" };
  replication.say(facts);
  const mtus = [1400, 1300];
  replication.clusterChanged.on(() => {
    const underlayMtuBytes = mtus.shift();
    if (underlayMtuBytes !== undefined) replication.say({ ...facts, underlayMtuBytes });
  });
  host.handlers.connected(other.node);
  await expect.poll(() => mtus).toEqual([]);
  const kept = saved.hosts().find(({ node }) => node === host.node);
  const held = replication.tables.hosts.get(host.node);
  expect(held?.underlayMtuBytes).toBe(1300);
  expect(kept?.version).toEqual(held?.version);
});
