import { recordings } from "../../fixtures/recordings.ts";
import { signedCluster } from "../../support/signed-cluster.ts";
import { saidSince } from "../since-0.1.0.ts";
import { hold, type Target } from "../target.ts";
import { causeOf, checkHosts, clusterReplicaOf, signedHosts } from "./cluster-gossip.ts";

/** What a peer answers to a comparison of the cluster: hosts change only to what they signed. */
export async function clusterSyncAnswer(): Promise<Target> {
  const cluster = await signedCluster();
  const { clusterSyncAnswer: since } = await saidSince(cluster);
  return {
    decoder: "ClusterReplica.answered",
    recorded: [...Object.values((await recordings()).clusterSyncAnswer), ...since],
    form: "cbor",
    dress: (input, random) => signedHosts(cluster, input, random),
    feed: (input) => {
      const made = clusterReplicaOf(cluster);
      const { replica, tables } = made;
      const { state } = tables;
      const [asked] = replica.tick(10_000).filter((output) => output.kind === "request");
      const counters = { ...replica.counters };
      hold(asked !== undefined, "a round begins");
      const outputs = replica.answered(asked.id, input, 10_001);
      checkHosts(cluster, made);
      hold(tables.state === state, "a state that was not verified");
      return (
        causeOf(counters, replica.counters) ?? (outputs.length === 0 ? "nothing new" : undefined)
      );
    },
  };
}
