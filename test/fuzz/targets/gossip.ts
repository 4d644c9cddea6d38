import { decode } from "cborg";
import { changeEndpoints } from "../../../agent/core/tables/tables.ts";
import { documentHolds } from "../../../agent/core/tables/verify.ts";
import { DEFAULT_REPLICA_OPTIONS, Replica } from "../../../agent/core/tables/replica.ts";
import { Sealing } from "../../../agent/replication/gossip/sealing.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import {
  supersedes,
  endpointsHash,
  type NetworkDelta,
  type NetworkDocument,
  networkSigningBytes,
} from "../../../shared/documents.ts";
import { ed25519Signer, ed25519Verifier, sha256 } from "../../../shared/node/system.ts";
import type { Random, Verifier } from "../../../shared/ports.ts";
import { recordings, TOPIC_KEY } from "../../fixtures/recordings.ts";
import { app } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { type SignedCluster, signedCluster } from "../../support/signed-cluster.ts";
import { hold, type Target } from "../target.ts";

/**
 * A message of a network's topic: the envelope of its key, then the delta. Whatever comes, a table
 * changes only to a newer document of a member that its owner signed.
 */
export async function gossip(believed: Verifier = ed25519Verifier()): Promise<Target> {
  const cluster = await signedCluster();
  const verifier = ed25519Verifier();
  const sealing = new Sealing(TOPIC_KEY, seededRandom(1));
  const peer = cluster.hosts[2].node;
  let replica = replicaOf(cluster, believed);
  return {
    decoder: "Sealing.open, Replica.gossip",
    recorded: Object.values((await recordings()).gossip),
    form: "cbor",
    dress: (input, random) => {
      // In a good envelope also what nobody signed.
      const message = random.below(4) === 0 ? input : signed(cluster, input, random);
      return new Sealing(TOPIC_KEY, random).seal(message);
    },
    feed: (input) => {
      const opened = sealing.open(input);
      if (opened === undefined) return "unsealed";
      const before = tableOf(replica);
      const counters = { ...replica.counters };
      const outputs = replica.gossip(app.id, peer, opened, 1);
      const after = tableOf(replica);
      const changed = [...after].filter(([node, document]) => before.get(node) !== document);
      hold(after.size >= before.size, "a document is gone");
      for (const [node, document] of changed) {
        hold(documentHolds(document, sha256, verifier), "a document that its owner did not sign");
        hold(
          cluster.hosts.slice(1).some((host) => host.node === node),
          "a document of no other member",
        );
        hold(supersedes(document, before.get(node)), "a document that is not newer");
      }
      if (changed.length > 0) replica = replicaOf(cluster, believed);
      const cause = (Object.keys(counters) as (keyof typeof counters)[]).find(
        (name) => name !== "merged" && replica.counters[name] > counters[name],
      );
      if (changed.length > 0) return undefined;
      hold(
        !outputs.some(({ kind }) => kind === "persist"),
        "something is kept that has not changed",
      );
      return cause ?? "old";
    },
  };
}

export function replicaOf(
  { hosts, state, networks }: SignedCluster,
  verifier: Verifier = ed25519Verifier(),
): Replica {
  const [self, other] = hosts;
  const replica = new Replica(
    { ...DEFAULT_REPLICA_OPTIONS, node: self.node },
    {
      hasher: sha256,
      signer: ed25519Signer(self.seed),
      verifier,
      random: seededRandom(1),
      peers: () => [other.node],
    },
  );
  replica.tables.mergeState(state);
  replica.restore(networks);
  replica.join(app.id, 0);
  return replica;
}

export function tableOf(replica: Replica): ReadonlyMap<string, NetworkDocument> {
  return new Map(replica.tables.documents(app.id));
}

/** As if some member had said it: what lies behind the signature is reached. */
function signed({ hosts, networks }: SignedCluster, input: Uint8Array, random: Random): Uint8Array {
  try {
    const { delta, ...rest } = decode(input) as { delta: NetworkDelta };
    const owner = hosts.find(({ node }) => node === delta.node) ?? hosts[random.below(3)]!;
    const held = networks.find(({ node }) => node === owner.node);
    const endpoints = changeEndpoints(held?.endpoints ?? [], delta.put, delta.remove);
    const hash = random.below(8) === 0 ? delta.hash : endpointsHash(sha256, endpoints);
    const message = networkSigningBytes(delta.network, delta.node, delta.version, hash);
    const signature = ed25519Signer(owner.seed).sign(message);
    return encodeCbor({ ...rest, delta: { ...delta, hash, signature } });
  } catch {
    // Too much was changed for anybody to sign it.
    return input;
  }
}
