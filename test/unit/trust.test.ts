import { beforeAll, describe, expect, test } from "vitest";
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { nodeIdOf, publicKeyOf } from "../../shared/node-id.ts";
import { type Identity, identityFromSeed } from "../../shared/node/identity.ts";
import { ed25519Signer, ed25519Verifier } from "../../shared/node/system.ts";
import type { NodeClaim } from "../../shared/cluster-state.ts";
import { ClusterId } from "../../shared/ids.ts";
import {
  signCertificate,
  signClaim,
  signState,
  verifyCertificate,
  verifyClaim,
  verifyState,
} from "../../shared/trust.ts";
import { changesOf, generationOf, MAX_GENERATION, revisionOf } from "../../shared/revision.ts";
import { Tables } from "../../agent/core/tables/tables.ts";
import { AdmissionRules } from "../../agent/replication/gossip/admission-rules.ts";
import { clusterState, node } from "../support/cluster.ts";

let root: Identity;
let controller: Identity;
let stranger: Identity;
let certificate: string;
const state = clusterState(3);
const claim: NodeClaim = { cluster: state.cluster, revision: 1, node: node(2) };

beforeAll(async () => {
  const seeds = [1, 2, 3].map((value) => new Uint8Array(32).fill(value));
  [root, controller, stranger] = seeds.map(identityFromSeed) as [Identity, Identity, Identity];
  certificate = await signCertificate(root, {
    cluster: state.cluster,
    controller: controller.node,
  });
});

describe("identity", () => {
  test("the node id contains the key that signs", () => {
    expect(publicKeyOf(controller.node)).toEqual(controller.publicKey);
    const message = Uint8Array.of(1, 2, 3);
    const signature = ed25519Signer(controller.seed).sign(message);
    const verifier = ed25519Verifier();
    expect(verifier.verify(controller.node, message, signature)).toBe(true);
    expect(verifier.verify(stranger.node, message, signature)).toBe(false);
    expect(verifier.verify("not an id", message, signature)).toBe(false);
  });

  test("it is what libp2p calls that key", async () => {
    for (let k = 0; k < 20; k++) {
      const seed = new Uint8Array(32).fill(k * 7);
      const theirs = peerIdFromPrivateKey(await generateKeyPairFromSeed("Ed25519", seed));
      const ours = identityFromSeed(seed);
      expect(ours.node).toBe(theirs.toString());
      expect(publicKeyOf(nodeIdOf(ours.publicKey))).toEqual(theirs.publicKey?.raw);
    }
  });

  test("a short seed and a broken id are refused by name", () => {
    expect(() => identityFromSeed(new Uint8Array(31))).toThrow(/31 bytes/);
    expect(() => publicKeyOf(`${controller.node.slice(0, -1)}0`)).toThrow(/not a node id/);
    expect(() => publicKeyOf("12D3KooX")).toThrow(/not a node id/);
  });
});

describe("the chain of trust", () => {
  test("root signs the controller, the controller the state and the claims", async () => {
    const signed = await signState(controller, certificate, state);
    expect(await verifyState(root.publicKey, signed)).toEqual(state);
    const signedClaim = await signClaim(controller, certificate, claim);
    expect(await verifyClaim(root.publicKey, signedClaim)).toEqual(claim);
  });

  test("another root, a self-made certificate, a stranger's signature: refused", async () => {
    const signed = await signState(controller, certificate, state);
    const refused = { code: "UNAUTHENTICATED" };
    await expect(verifyState(stranger.publicKey, signed)).rejects.toMatchObject(refused);
    const selfMade = await signCertificate(stranger, {
      cluster: state.cluster,
      controller: stranger.node,
    });
    await expect(verifyCertificate(root.publicKey, selfMade)).rejects.toMatchObject(refused);
    const forged = await signState(stranger, certificate, state);
    await expect(verifyState(root.publicKey, forged)).rejects.toMatchObject(refused);
  });

  test("a changed payload, no signature, and another algorithm: refused", async () => {
    const { jws, controllerCertificate } = await signState(controller, certificate, state);
    const [header, , signature] = jws.split(".");
    const richer = Buffer.from(JSON.stringify({ ...state, revision: 99 })).toString("base64url");
    const none = Buffer.from(JSON.stringify({ alg: "none" })).toString("base64url");
    for (const bad of [
      `${header}.${richer}.${signature}`,
      `${header}.${richer}.`,
      `${none}.${richer}.`,
      "x",
      "",
    ])
      await expect(
        verifyState(root.publicKey, { jws: bad, controllerCertificate }),
      ).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
  });

  test("a claim is no state, and a certificate of another cluster opens nothing here", async () => {
    const asState = await signClaim(controller, certificate, claim);
    await expect(verifyState(root.publicKey, asState)).rejects.toThrow(/overlay-ts\/claim/);
    const other = ClusterId.parse("d".repeat(32));
    const elsewhere = await signCertificate(root, { cluster: other, controller: controller.node });
    const signed = await signState(controller, elsewhere, state);
    await expect(verifyState(root.publicKey, signed)).rejects.toThrow(/of cluster c/);
  });
});

describe("when another controller has taken over", () => {
  const at = (generation: number, changes: number) => ({
    ...state,
    revision: revisionOf(generation, changes),
  });
  let next: Identity;
  let nextCertificate: string;

  beforeAll(async () => {
    next = identityFromSeed(new Uint8Array(32).fill(4));
    const { cluster } = state;
    nextCertificate = await signCertificate(root, {
      cluster,
      controller: next.node,
      generation: 1,
    });
  });

  test("a revision is its generation and its changes", () => {
    expect([generationOf(revisionOf(3, 7)), changesOf(revisionOf(3, 7))]).toEqual([3, 7]);
    expect(revisionOf(0, 7)).toBe(7);
    expect(Number.isSafeInteger(revisionOf(MAX_GENERATION, 2 ** 32 - 1))).toBe(true);
  });

  test("what it says is newer than all that the one before can ever say", async () => {
    const last = await signState(controller, certificate, at(0, 2 ** 32 - 1));
    const first = await signState(next, nextCertificate, at(1, 1));
    const tables = new Tables();
    expect(tables.mergeState(await verifyState(root.publicKey, last))).toBe(true);
    expect(tables.mergeState(await verifyState(root.publicKey, first))).toBe(true);
    expect(tables.mergeState(await verifyState(root.publicKey, last))).toBe(false);
  });

  test("neither can sign a revision of the other's", async () => {
    const early = await signState(controller, certificate, at(1, 2));
    const late = await signState(next, nextCertificate, at(0, 2));
    const borrowed = await signState(controller, nextCertificate, at(1, 2));
    const refused = { code: "UNAUTHENTICATED" };
    await expect(verifyState(root.publicKey, early)).rejects.toThrow(/generation 0 cannot sign/);
    await expect(verifyState(root.publicKey, late)).rejects.toThrow(/generation 1 cannot sign/);
    await expect(verifyState(root.publicKey, borrowed)).rejects.toMatchObject(refused);
  });

  test("a host that only the one before admitted afterwards is no member", async () => {
    const rules = new AdmissionRules(root.publicKey);
    const admitted = { ...claim, revision: 1000 };
    const later = await signClaim(controller, certificate, admitted);
    const { id } = claim.node;
    const { revision } = at(1, 5);
    rules.set({ revision, nodes: [], revoked: [] });
    expect(await rules.refusal(id, later)).toBe("notAdmitted");
    // Members keep the claims they have.
    rules.set({ revision, nodes: [id], revoked: [] });
    expect(await rules.refusal(id, later)).toBeUndefined();
    const forged = await signClaim(controller, certificate, { ...claim, revision: revision + 1 });
    expect(await rules.refusal(id, forged)).toBe("badClaim");
  });
});
