import { decode } from "cborg";
import { documentHolds } from "../../../agent/core/tables/verify.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import {
  endpointsHash,
  type NetworkDocument,
  networkSigningBytes,
} from "../../../shared/documents.ts";
import { ed25519Signer, ed25519Verifier, sha256 } from "../../../shared/node/system.ts";
import type { Random } from "../../../shared/ports.ts";
import { recordings } from "../../fixtures/recordings.ts";
import { app } from "../../support/cluster.ts";
import { type SignedCluster, signedCluster } from "../../support/signed-cluster.ts";
import { hold, type Target } from "../target.ts";
import { causeOf } from "./cluster-gossip.ts";
import { replicaOf, tableOf } from "./gossip.ts";

/** What a peer answers to a comparison of a network: tables change only to what its owner signed. */
export async function syncAnswer(): Promise<Target> {
  const cluster = await signedCluster();
  const verifier = ed25519Verifier();
  // The first has the documents of the recording, the other none but its own.
  const lacking = { ...cluster, networks: cluster.networks.slice(0, 1) };
  return {
    decoder: "Replica.answered",
    recorded: Object.values((await recordings()).syncAnswer),
    form: "cbor",
    dress: (input, random) => signedDocuments(cluster, input, random),
    feed: (input) => {
      const replica = replicaOf(input.length % 2 === 0 ? cluster : lacking);
      const before = tableOf(replica);
      const [asked] = replica.tick(10_000).filter((output) => output.kind === "request");
      const counters = { ...replica.counters };
      hold(asked !== undefined, "a round begins");
      const outputs = replica.answered(asked.id, input, 10_001);
      for (const [node, document] of tableOf(replica)) {
        if (before.get(node) === document) continue;
        hold(
          cluster.hosts.some((host) => host.node === node),
          "a document of no member",
        );
        hold(documentHolds(document, sha256, verifier), "a document that its owner did not sign");
        hold(document.network === app.id, "a document of another network");
      }
      return (
        causeOf(counters, replica.counters) ?? (outputs.length === 0 ? "nothing new" : undefined)
      );
    },
  };
}

function signedDocuments({ hosts }: SignedCluster, input: Uint8Array, random: Random): Uint8Array {
  const sign = (document: NetworkDocument): NetworkDocument => {
    const owner = hosts.find(({ node }) => node === document.node) ?? hosts[random.below(3)]!;
    const { network, node, version, endpoints } = document;
    const hash = endpointsHash(sha256, endpoints);
    const message = networkSigningBytes(network, node, version, hash);
    return { ...document, signature: ed25519Signer(owner.seed).sign(message) };
  };
  try {
    const message = decode(input) as { documents?: NetworkDocument[] };
    if (message.documents === undefined) return input;
    return encodeCbor({ ...message, documents: message.documents.map(sign) });
  } catch {
    // Too much was changed for anybody to sign it.
    return input;
  }
}
