import { decode } from "cborg";
import { describe, expect, test } from "vitest";
import type { z } from "zod";
import { AddressPools } from "../../../agent/networks/address-pools.ts";
import { Bindings } from "../../../agent/networks/bindings.ts";
import { Leases } from "../../../agent/networks/leases.ts";
import { ReturnedBlocks } from "../../../agent/networks/returned-blocks.ts";
import {
  ClusterGossip,
  ClusterSyncAnswer,
  ClusterSyncRequest,
} from "../../../agent/core/tables/cluster-messages.ts";
import {
  decodeKeyAnswer,
  decodeKeyRequest,
  KeyAnswer,
  KeyRequest,
} from "../../../agent/core/keys/ipsec-messages.ts";
import {
  decodeMessage,
  GossipMessage,
  SyncAnswer,
  SyncRequest,
} from "../../../agent/core/tables/messages.ts";
import { deltaHolds, documentHolds } from "../../../agent/core/tables/verify.ts";
import { frame, unframe } from "../../../agent/replication/gossip/request-frame.ts";
import { Sealing } from "../../../agent/replication/gossip/sealing.ts";
import { parseMembership } from "../../../agent/membership/membership-files.ts";
import { JoinedSandboxes } from "../../../agent/names/joined-sandboxes.ts";
import { SavedTables } from "../../../agent/replication/saved-tables.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import { StateSigner } from "../../../controller/state-signer.ts";
import { decodeRecord, encodeRecord } from "../../../controller/encoded-record.ts";
import { ControlAnswer, ControlRequest } from "../../../controller/wire/messages.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import { SignedNodeClaim } from "../../../shared/cluster-state.ts";
import { decodeCbor, encodeCbor, hex } from "../../../shared/codec.ts";
import { hostSigningBytes } from "../../../shared/documents.ts";
import { ed25519Verifier, sha256 } from "../../../shared/node/system.ts";
import { openSealed, sealKeyPair } from "../../../shared/sealed-box.ts";
import { formatToken, parseToken } from "../../../shared/token.ts";
import { signState, verifyClaim, verifyState } from "../../../shared/trust.ts";
import { asText, recorded } from "../../fixtures/recorded.ts";
import { type Recordings, recordings, TOPIC_KEY } from "../../fixtures/recordings.ts";
import { Cidr } from "../../../shared/ip.ts";
import { app } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { signedCluster } from "../../support/signed-cluster.ts";

/** What a version wrote, each that was released. Nothing of it may become unreadable. */
const VERSIONS = ["0.1.0"];
const NEWEST = "0.1.0";
const MAX = BOUNDS.syncMessageBytes;

const verifier = ed25519Verifier();
const cluster = await signedCluster();
const made = await recordings();

/** Messages in CBOR with a version, by kind, without what stands before them. */
const MESSAGES: Partial<Record<keyof Recordings, readonly z.ZodType[]>> = {
  gossip: [GossipMessage],
  clusterGossip: [ClusterGossip],
  syncRequest: [SyncRequest, ClusterSyncRequest, KeyRequest],
  syncAnswer: [SyncAnswer],
  clusterSyncAnswer: [ClusterSyncAnswer],
  keyRequest: [KeyRequest],
  keyAnswer: [KeyAnswer],
  controlRequest: [ControlRequest],
  controlAnswer: [ControlAnswer],
};

/** The byte that says whom it is for, and of keys the one-time public key. */
const bodyOf = (kind: string, bytes: Uint8Array): Uint8Array =>
  kind === "syncRequest" ? bytes.subarray(bytes[0] === 2 ? 33 : 1) : bytes;

const messagesOf = (all: Recordings): [string, Uint8Array, readonly z.ZodType[]][] =>
  Object.entries(MESSAGES).flatMap(([kind, schemas]) =>
    Object.entries(all[kind as keyof Recordings]).map(
      ([name, bytes]): [string, Uint8Array, readonly z.ZodType[]] => [
        `${kind} ${name}`,
        bodyOf(kind, bytes),
        schemas,
      ],
    ),
  );

test("this version writes what is recorded of it, byte by byte", () => {
  expect(asText(made)).toEqual(asText(recorded(NEWEST)));
});

describe.each(VERSIONS)("what %s wrote", (version) => {
  const all = recorded(version);

  test.each(messagesOf(all))("%s is read, and written again as it was", (_, bytes, schemas) => {
    const read = schemas.map((schema) => schema.safeParse(decodeCbor(bytes, MAX)));
    const understood = read.filter(({ success }) => success);
    expect(understood).toHaveLength(1);
    expect(hex(encodeCbor(understood[0]!.data))).toBe(hex(bytes));
  });

  test.each(messagesOf(all))("%s with a field more is read without it", (_, bytes, schemas) => {
    const message = { ...(decode(bytes) as object), later: [1, "x"] };
    const read = schemas.map((schema) => schema.safeParse(decodeCbor(encodeCbor(message), MAX)));
    const understood = read.find(({ success }) => success);
    expect(hex(encodeCbor(understood?.data))).toBe(hex(bytes));
  });

  test.each(Object.entries(all.gossip))("the delta %s is signed by its owner", (name, bytes) => {
    const { delta } = decodeMessage(GossipMessage, bytes, MAX);
    expect(deltaHolds(delta, verifier)).toBe(true);
    const sealed = all.envelope[name]!;
    expect(new Sealing(TOPIC_KEY, seededRandom(1)).open(sealed)).toEqual(bytes);
  });

  test("keys: questions and answers", () => {
    for (const bytes of Object.values(all.keyRequest)) decodeKeyRequest(bytes);
    for (const bytes of Object.values(all.keyAnswer)) decodeKeyAnswer(bytes);
    const key = ControlAnswer.parse(decodeCbor(all.controlAnswer["key"]!, MAX));
    if (key.kind !== "key") throw new Error("it is the answer with a key");
    const { secretKey } = sealKeyPair(sha256, cluster.hosts[0].seed);
    expect(openSealed(secretKey, key.key.sealed)).toEqual(TOPIC_KEY);
  });

  test("frames of a stream of requests", () => {
    for (const bytes of Object.values(all.requestFrame)) {
      const { id, kind, body } = unframe(bytes);
      expect(frame(id, kind, body)).toEqual(bytes);
    }
  });

  test("the claim, the token and the membership chain to the root key", async () => {
    const claim = SignedNodeClaim.parse(decodeCbor(all.claim["shown"]!, MAX));
    const { node } = await verifyClaim(cluster.root.publicKey, claim);
    expect(node).toEqual(cluster.state.nodes[0]);
    const text = new TextDecoder().decode(all.token["token"]);
    expect(formatToken(parseToken(text))).toBe(text);
    const { state } = parseMembership("membership.json", all.membership["file"]!);
    expect(await verifyState(cluster.root.publicKey, state)).toEqual(cluster.state);
  });

  test("every entry of the agent's database is read by its part, and signed where it must be", () => {
    const store = new MemoryStore();
    for (const [key, value] of Object.entries(all.agentRow))
      store.write([{ kind: "put", key, value }]);
    const disk = new Disk(store);
    const saved = new SavedTables(disk);
    expect(saved.state()).toEqual(cluster.signed);
    expect(saved.key(app.id)).toEqual({ epoch: 1, key: TOPIC_KEY });
    const [host] = saved.hosts();
    expect(verifier.verify(host!.node, hostSigningBytes(host!), host!.signature)).toBe(true);
    const [document] = saved.documents();
    expect(documentHolds(document!, sha256, verifier)).toBe(true);
    const bindings = new Bindings(disk);
    expect([...bindings.networks().values()]).toEqual([app.id]);
    expect(new AddressPools(disk).get("pool-1")).toMatchObject({ network: app.id });
    expect([...new Leases(disk).of(app.id)]).toEqual(["10.192.1.5"]);
    expect([...bindings.removed()]).toEqual([app.id]);
    expect(new ReturnedBlocks(disk).has(app.id, Cidr.parse("10.192.1.0/24"))).toBe(true);
    expect(new JoinedSandboxes(disk).all()).toHaveLength(1);
    expect(disk.status().losses).toEqual([]);
  });

  test("the controller's record", () => {
    const bytes = all.controllerRecord["record"]!;
    expect(encodeRecord(decodeRecord(bytes))).toEqual(bytes);
  });
});

describe("what a later version may write", () => {
  test.each(messagesOf(made))("%s of version 2 is refused as such", (_, bytes, schemas) => {
    const message = encodeCbor({ ...(decode(bytes) as object), v: 2 });
    expect(schemas.every((schema) => !schema.safeParse(decodeCbor(message, MAX)).success)).toBe(
      true,
    );
    expect(() => decodeMessage(schemas[0]!, message, MAX)).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED", message: expect.stringMatching(/version 2/) }),
    );
  });

  test("fields of an endpoint and of a host's document are kept: their owner's signature covers them", () => {
    const [document] = cluster.documents;
    const message = { v: 1, kind: "host", document: { ...document, later: 1 } };
    const read = decodeMessage(ClusterGossip, encodeCbor(message), MAX);
    expect(read).toMatchObject({ document: { later: 1 } });
    const delta = decodeMessage(GossipMessage, made.gossip["started"]!, MAX).delta;
    const put = delta.put.map((endpoint) => ({ ...endpoint, later: 1 }));
    const more = encodeCbor({ v: 1, delta: { ...delta, put } });
    expect(decodeMessage(GossipMessage, more, MAX).delta.put).toEqual(put);
  });

  test("who says nothing of what it takes, as 0.1.0, is given the state whole, and nothing beside it", async () => {
    const { controller, certificate, state, signed } = cluster;
    const signer = new StateSigner({ controller, certificate }, sha256);
    signer.goesOnFrom({ ...state, revision: state.revision - 1, blocks: [] });
    expect(await signer.sign(state, {})).not.toEqual(signed);
    expect(await signer.sign(state)).toEqual(signed);
  });

  test("a state of another format is refused, whoever signed it", async () => {
    const state = { ...cluster.state, format: 2 as 1 };
    const signed = await signState(cluster.controller, cluster.certificate, state);
    await expect(verifyState(cluster.root.publicKey, signed)).rejects.toThrow(/format/);
  });
});
