import { Replication } from "../../../agent/replication/replication.ts";
import type { Mesh, MeshHandlers } from "../../../agent/replication/gossip/port.ts";
import { SavedTables } from "../../../agent/replication/saved-tables.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import { decodeKeyRequest } from "../../../agent/core/keys/ipsec-messages.ts";
import { MeshKeyChannel } from "../../../agent/encryption/ipsec/mesh-key-channel.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import {
  ed25519Signer,
  ed25519Verifier,
  sha256,
  systemClock,
  systemTimers,
} from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { verifySigned } from "../../../shared/node/signed-state.ts";
import { verifyHead } from "../../../shared/trust.ts";
import { recordings } from "../../fixtures/recordings.ts";
import { app } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { type SignedCluster, signedCluster } from "../../support/signed-cluster.ts";
import { saidSince } from "../since-0.1.0.ts";
import { hold, refusalOf, type Target } from "../target.ts";

const REPLICA_BYTES = 1;
const KEY_BYTES = 33;

/** What a member asks: comparisons, documents, keys of its pair. Asking changes nothing. */
export async function syncRequest(): Promise<Target> {
  const cluster = await signedCluster();
  const { replication, request } = await replicationOf(cluster);
  const { syncRequest: since } = await saidSince(cluster);
  const tables = (): readonly unknown[] => [
    replication.tables.state,
    ...replication.tables.hosts.values(),
    ...replication.tables.documents(app.id).values(),
  ];
  return {
    decoder: "Replication: answers to requests",
    recorded: [...Object.values((await recordings()).syncRequest), ...since],
    form: "cbor",
    treeAt: (input) => (input[0] === 2 ? KEY_BYTES : REPLICA_BYTES),
    feed: async (input) => {
      const before = tables();
      try {
        const answer = await request(cluster.hosts[1].node, input);
        hold(answer.length <= BOUNDS.syncMessageBytes, "an answer longer than a message");
        return undefined;
      } catch (error) {
        return refusalOf(error);
      } finally {
        const after = tables();
        hold(
          before.every((held, i) => held === after[i]),
          "a question changed the tables",
        );
        hold(before.length === after.length, "a question added to the tables");
      }
    },
    close: () => replication.stop(),
  };
}

/** h1's, which all that is asked over the mesh is given to. */
export async function replicationOf(cluster: SignedCluster): Promise<{
  readonly replication: Replication;
  readonly request: MeshHandlers["request"];
}> {
  const [self] = cluster.hosts;
  const handlers = Promise.withResolvers<MeshHandlers>();
  const mesh: Mesh = {
    start: async (given) => handlers.resolve(given),
    admit: () => {},
    wantPeers: () => {},
    join: async () => {},
    leave: async () => {},
    publish: async () => {},
    request: () => new Promise(() => {}),
    connections: () => [],
    counters: async () => ({}),
    otherVersions: async () => [],
    owesSinceMs: () => undefined,
    stop: async () => {},
  };
  const keys = new MeshKeyChannel(() => Promise.reject(new Error("nobody is asked")));
  keys.serve(async (_from, bytes) => {
    decodeKeyRequest(bytes);
    return new Uint8Array(4);
  });
  const saved = new SavedTables(new Disk(new MemoryStore()));
  for (const document of cluster.documents) saved.saveHost(document);
  for (const document of cluster.networks) saved.saveDocument(document);
  const replication = new Replication(self.node, {
    mesh,
    saved,
    clock: systemClock,
    timers: systemTimers,
    random: seededRandom(1),
    hasher: sha256,
    signer: ed25519Signer(self.seed),
    verifier: ed25519Verifier(),
    log: silentLog,
    verifyState: (signed) => verifySigned(cluster.root.publicKey, signed),
    verifyHead: (signed) => verifyHead(cluster.root.publicKey, signed),
    answerKeys: (from, bytes) => keys.asked(from, bytes),
  });
  await replication.restore(cluster.signed);
  await replication.start();
  await replication.join(app.id, new Uint8Array(32));
  const given = await handlers.promise;
  return { replication, request: (from, bytes) => given.request(from, bytes) };
}
