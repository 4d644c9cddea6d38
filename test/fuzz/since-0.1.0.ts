import type {
  ClusterGossip,
  ClusterSyncAnswer,
  ClusterSyncRequest,
} from "../../agent/core/tables/cluster-messages.ts";
import type { ControlAnswer, ControlRequest } from "../../controller/wire/messages.ts";
import { StateSigner } from "../../controller/state-signer.ts";
import type { SignedHead, SignedState } from "../../shared/cluster-state.ts";
import { encodeCbor } from "../../shared/codec.ts";
import { sha256 } from "../../shared/node/system.ts";
import { headIn } from "../../shared/state/head.ts";
import { app } from "../support/cluster.ts";
import type { SignedCluster } from "../support/signed-cluster.ts";

/** What this version says and 0.1.0 does not, beside the recordings of that one. */
export interface SaidSince {
  readonly clusterGossip: readonly Uint8Array[];
  readonly syncRequest: readonly Uint8Array[];
  readonly clusterSyncAnswer: readonly Uint8Array[];
  readonly controlRequest: readonly Uint8Array[];
  readonly controlAnswer: readonly Uint8Array[];
}

/** A block less, as all say and ask it when each member follows changes. */
export async function saidSince(cluster: SignedCluster): Promise<SaidSince> {
  const { controller, certificate, state, documents, hosts } = cluster;
  const signer = new StateSigner({ controller, certificate }, sha256);
  signer.goesOnFrom(state);
  const before = await signer.sign(state, {});
  const held = { revision: state.revision, root: headIn(before.jws).root };
  const revision = state.revision + 1;
  const next = { ...state, revision, blocks: state.blocks.slice(1) };
  const asChanges = await signer.sign(next, { held });
  const asObjects = await signer.sign(next, { held: { ...held, revision: 7 } });
  const { jws, controllerCertificate } = asChanges;
  const head: SignedHead = { jws, controllerCertificate };
  const changes = [...asChanges.changes!];
  const { root } = headIn(jws);
  const gossip: ClusterGossip = { v: 1, kind: "change", revision, change: changes[0]! };
  const answers: ClusterSyncAnswer[] = [
    { v: 1, kind: "clusterDigest", revision, digest: [], root, unsure: true },
    { v: 1, kind: "cluster", changes, hosts: [...documents] },
    { v: 1, kind: "cluster", head, hosts: [] },
    { v: 1, kind: "stateHead", head },
  ];
  const buckets = [0, 369, 1023];
  const nodes = hosts.map(({ node }) => node);
  const requests: ClusterSyncRequest[] = [
    {
      v: 1,
      kind: "compareCluster",
      revision: state.revision,
      hash: new Uint8Array(32),
      root: held.root,
    },
    { v: 1, kind: "fetchCluster", revision: 0, nodes, objects: true, root: held.root },
    { v: 1, kind: "stateHashes", root: held.root },
    { v: 1, kind: "stateObjects", root: held.root, buckets },
  ];
  return {
    clusterGossip: [encodeCbor(gossip)],
    clusterSyncAnswer: answers.map((answer) => encodeCbor(answer)),
    // With the byte that says which replica is asked.
    syncRequest: requests.map((request) => Uint8Array.of(0, ...encodeCbor(request))),
    controlRequest: controlRequests(held, nodes).map((request) => encodeCbor(request)),
    controlAnswer: controlAnswers([asChanges, asObjects], revision).map((answer) =>
      encodeCbor(answer),
    ),
  };
}

function controlRequests(
  held: { revision: number; root: string },
  needWhole: SignedCluster["state"]["nodes"][number]["id"][],
): ControlRequest[] {
  return [
    { v: 1, kind: "state", revision: 0, takes: { held } },
    { v: 1, kind: "state", revision: 0, takes: { needWhole } },
    {
      v: 1,
      kind: "allotBlock",
      network: app.id,
      family: 4,
      holds: held.revision,
      takes: { held, needWhole },
    },
  ];
}

function controlAnswers(states: readonly SignedState[], revision: number): ControlAnswer[] {
  return [
    ...states.map((state): ControlAnswer => ({ v: 1, kind: "state", state })),
    { v: 1, kind: "news", revision },
    { v: 1, kind: "done", state: states[0]! },
  ];
}
