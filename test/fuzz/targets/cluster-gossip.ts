import { decode } from "cborg";
import { ClusterReplica } from "../../../agent/core/tables/cluster-replica.ts";
import { DEFAULT_REPLICA_OPTIONS } from "../../../agent/core/tables/replica.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { type HostDocument, hostSigningBytes } from "../../../shared/documents.ts";
import { ed25519Signer, ed25519Verifier, sha256 } from "../../../shared/node/system.ts";
import type { Random } from "../../../shared/ports.ts";
import { verifyHead, verifyState } from "../../../shared/trust.ts";
import type { ClusterOutput } from "../../../agent/core/tables/cluster-output.ts";
import { recordings } from "../../fixtures/recordings.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { type SignedCluster, signedCluster } from "../../support/signed-cluster.ts";
import { saidSince } from "../since-0.1.0.ts";
import { hold, refusalOf, type Target } from "../target.ts";

/**
 * A message of the cluster topic. Whatever comes: what hosts say of themselves changes only with a member's
 * signature, and a state that does not chain to the root key changes nothing.
 */
export async function clusterGossip(): Promise<Target> {
  const cluster = await signedCluster();
  const since = await saidSince(cluster);
  const peer = cluster.hosts[2].node;
  let made = clusterReplicaOf(cluster);
  return {
    decoder: "ClusterReplica.gossip",
    recorded: [...Object.values((await recordings()).clusterGossip), ...since.clusterGossip],
    form: "cbor",
    dress: (input, random) => signedHosts(cluster, input, random),
    feed: async (input) => {
      const { replica, tables } = made;
      const counters = { ...replica.counters };
      const outputs = replica.gossip(peer, input, 1);
      const changed = checkHosts(cluster, made);
      if (changed) made = clusterReplicaOf(cluster);
      for (const output of outputs)
        if (output.kind === "verifyChange") {
          const refused = await feedChange(cluster, made, output);
          if (refused === undefined) made = clusterReplicaOf(cluster);
          return refused;
        } else if (output.kind === "verifyState")
          try {
            replica.stateVerified(
              output.signed,
              await verifyState(cluster.root.publicKey, output.signed),
              1,
            );
            hold(tables.state?.revision === cluster.state.revision, "a state nobody signed");
          } catch (error) {
            return `state ${refusalOf(error)}`;
          }
      if (outputs.length > 0) return undefined;
      return causeOf(counters, replica.counters) ?? "old";
    },
  };
}

/** Whatever stands beside a head: the state is the one before, or the one that was signed. */
async function feedChange(
  { root, state }: SignedCluster,
  { replica, tables }: MadeClusterReplica,
  output: Extract<ClusterOutput, { kind: "verifyChange" }>,
): Promise<string | undefined> {
  const { from, signed, controllerCertificate } = output;
  try {
    const head = await verifyHead(root.publicKey, { jws: signed.jws, controllerCertificate });
    const { misfits, badState } = replica.counters;
    replica.changeVerified(from, signed, head, 1);
    const blocks = state.blocks.slice(tables.state?.revision === state.revision ? 0 : 1);
    hold(tables.state?.blocks.length === blocks.length, "blocks that nobody signed");
    hold(replica.counters.misfits === misfits, "a head that does not lead to its root");
    return replica.counters.badState > badState ? "not the head's" : undefined;
  } catch (error) {
    return `head ${refusalOf(error)}`;
  }
}

export interface MadeClusterReplica {
  readonly replica: ClusterReplica;
  readonly tables: Tables;
  readonly before: ReadonlyMap<string, HostDocument>;
}

export function clusterReplicaOf({
  hosts,
  state,
  signed,
  documents,
}: SignedCluster): MadeClusterReplica {
  const [self, other] = hosts;
  const tables = new Tables();
  const replica = new ClusterReplica(
    tables,
    { ...DEFAULT_REPLICA_OPTIONS, node: self.node },
    {
      hasher: sha256,
      signer: ed25519Signer(self.seed),
      verifier: ed25519Verifier(),
      random: seededRandom(1),
      peers: () => [other.node],
    },
  );
  // h3 has not been heard yet.
  replica.restore(documents.slice(0, 2), signed, state);
  return { replica, tables, before: new Map(tables.hosts) };
}

/** @returns whether a host's document is another. @throws Finding: and it may not be. */
export function checkHosts({ hosts }: SignedCluster, made: MadeClusterReplica): boolean {
  const { tables, before } = made;
  const verifier = ed25519Verifier();
  hold(tables.hosts.size >= before.size, "a host's document is gone");
  const changed = [...tables.hosts].filter(([node, document]) => before.get(node) !== document);
  for (const [node, document] of changed) {
    hold(
      hosts.some((host) => host.node === node),
      "a document of no member",
    );
    const message = hostSigningBytes(document);
    hold(verifier.verify(node, message, document.signature), "a document nobody signed");
  }
  return changed.length > 0;
}

export function causeOf<T extends object>(before: T, after: T): string | undefined {
  return (Object.keys(before) as (keyof T & string)[]).find(
    (name) => name !== "merged" && after[name] > before[name],
  );
}

/** Documents of hosts in the message, wherever it holds one, signed by them. */
export function signedHosts(
  { hosts }: SignedCluster,
  input: Uint8Array,
  random: Random,
): Uint8Array {
  const sign = (document: HostDocument): HostDocument => {
    const owner = hosts.find(({ node }) => node === document.node) ?? hosts[random.below(3)]!;
    return { ...document, signature: ed25519Signer(owner.seed).sign(hostSigningBytes(document)) };
  };
  try {
    const message = decode(input) as { document?: HostDocument; hosts?: HostDocument[] };
    return encodeCbor({
      ...message,
      ...(message.document === undefined ? {} : { document: sign(message.document) }),
      ...(message.hosts === undefined ? {} : { hosts: message.hosts.map(sign) }),
    });
  } catch {
    // Too much was changed for anybody to sign it.
    return input;
  }
}
