import { beforeEach, expect, test } from "vitest";
import { Replication } from "../../../agent/replication/replication.ts";
import { SavedTables } from "../../../agent/replication/saved-tables.ts";
import type { Mesh, MeshHandlers } from "../../../agent/replication/gossip/port.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { hostSigningBytes } from "../../../shared/documents.ts";
import { verifySigned } from "../../../shared/node/signed-state.ts";
import {
  ed25519Signer,
  ed25519Verifier,
  sha256,
  systemClock,
} from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { verifyHead } from "../../../shared/trust.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { signedCluster, signedHost } from "../../support/signed-cluster.ts";

const cluster = await signedCluster();
const [own, other] = cluster.hosts;
let saved: SavedTables;
let handlers: MeshHandlers;
let answer: () => Uint8Array;

const mesh: Pick<Mesh, "start" | "join" | "publish" | "request" | "connections"> = {
  start: async (given) => void (handlers = given),
  join: async () => {},
  publish: async () => {},
  request: async () => answer(),
  connections: () => [other.node],
};

beforeEach(() => {
  saved = new SavedTables(new Disk(new MemoryStore()));
});

test("what this host says because of others' words is on disk after what it overtook with them", async () => {
  const rootKey = cluster.root.publicKey;
  const replication = new Replication(own.node, {
    saved,
    mesh: { ...mesh, admit: () => {}, wantPeers: () => {} } as unknown as Mesh,
    clock: systemClock,
    timers: { after: () => () => {} },
    random: seededRandom(1),
    hasher: sha256,
    signer: ed25519Signer(own.seed),
    verifier: ed25519Verifier(),
    log: silentLog,
    verifyState: (signed) => verifySigned(rootKey, signed),
    verifyHead: (signed) => verifyHead(rootKey, signed),
    answerKeys: () => Promise.reject(new Error("nobody asks")),
  });
  await replication.restore(cluster.signed);
  await replication.start();
  const { signature: _, ...before } = { ...signedHost(own, 1, 9), bootId: "before" };
  const signature = ed25519Signer(own.seed).sign(hostSigningBytes(before));
  const facts = { ...before, bootId: "now" };
  replication.say({ ...facts, hosting: [] });
  // Another's word, and with it an own one of before that is newer.
  const hosts = [{ ...before, signature }, signedHost(other, 2)];
  const answers = [
    { v: 1, kind: "clusterDigest", revision: 1, digest: hosts.map(digestOf), unsure: true },
    { v: 1, kind: "cluster", hosts: hosts.toReversed() },
  ];
  answer = () => encodeCbor(answers.shift() ?? { v: 1, kind: "same" });
  let said = 0;
  replication.clusterChanged.on(() => {
    if (said++ === 0) replication.say(facts);
  });
  handlers.connected(other.node);
  await expect.poll(() => replication.tables.hosts.size).toBe(2);
  await expect.poll(() => said).toBeGreaterThan(0);
  const [word] = saved.hosts().filter(({ node }) => node === own.node);
  expect(word).toEqual(replication.tables.hosts.get(own.node));
  expect(word!.version).toEqual({ incarnation: 2, seq: 2 });
});

function digestOf({ node, version }: ReturnType<typeof signedHost>) {
  return { node, version, hash: new Uint8Array(32) };
}
