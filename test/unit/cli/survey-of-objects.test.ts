import { expect, test } from "vitest";
import { ClusterSurvey } from "../../../agent/cli/cluster-survey.ts";
import { ClusterSyncRequest } from "../../../agent/core/tables/cluster-messages.ts";
import { ClusterReplica } from "../../../agent/core/tables/cluster-replica.ts";
import type { HeadedChange } from "../../../agent/core/tables/followed-state.ts";
import { decodeMessage } from "../../../agent/core/tables/messages.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import type { Mesh, MeshHandlers, MeshPeer } from "../../../agent/replication/gossip/port.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { verifySigned } from "../../../shared/node/signed-state.ts";
import { ed25519Signer, ed25519Verifier, sha256 } from "../../../shared/node/system.ts";
import { forked } from "../../support/forks.ts";
import { seededRandom } from "../../support/seeded-random.ts";

/** A controller that meets hosts which hold the state as objects, and have followed it from change to change. */

const { cluster, changeOf, rootOf, stateOf, winner } = await forked();

function hostAt(k: number, changes: readonly HeadedChange[]): ClusterReplica {
  const { node, seed } = cluster.hosts[k]!;
  const replica = new ClusterReplica(
    new Tables(),
    { node, syncPeriodMs: 1500, requestTimeoutMs: 1000 },
    {
      hasher: sha256,
      signer: ed25519Signer(seed),
      verifier: ed25519Verifier(),
      random: seededRandom(k),
      peers: () => [],
    },
  );
  replica.restore([], cluster.signed, cluster.state, changes);
  return replica;
}

/** Each host is connected when it is wanted. */
function meshOf(hosts: ReadonlyMap<NodeId, ClusterReplica>): Mesh {
  let handlers: MeshHandlers | undefined;
  return {
    start: async (made: MeshHandlers) => void (handlers = made),
    join: async () => {},
    stop: async () => {},
    wantPeers: (peers: readonly MeshPeer[]) => {
      for (const { node } of peers)
        if (hosts.has(node)) setImmediate(() => handlers?.connected(node));
    },
    request: async (node: NodeId, bytes: Uint8Array) => {
      const request = decodeMessage(ClusterSyncRequest, bytes.subarray(1), BOUNDS.syncMessageBytes);
      return encodeCbor(hosts.get(node)!.answer(cluster.controller.node, request));
    },
  } as unknown as Mesh;
}

async function met(known: typeof cluster.state, ...held: readonly (readonly HeadedChange[])[]) {
  const hosts = new Map(
    held.map((changes, k) => [cluster.hosts[k]!.node, hostAt(k, changes)] as const),
  );
  const verify = (signed: Parameters<typeof verifySigned>[1]) =>
    verifySigned(cluster.root.publicKey, signed);
  return (await new ClusterSurvey(meshOf(hosts), known, verify).meet(2000)).newest;
}

test("the newest is had from whoever has it, from change to change as it came", async () => {
  const followed = [changeOf("a", 2), changeOf("a", 3)];
  const newest = await met(cluster.state, followed.slice(0, 1), followed, []);
  expect(newest?.state.revision).toBe(3);
  expect(new Set(newest?.state.blocks)).toEqual(new Set(stateOf("a", 3).blocks));
  expect(await verifySigned(cluster.root.publicKey, newest!.signed)).toEqual(newest!.state);
});

test("of two of one revision the one with the greater root is what was met, if it is not the known one", async () => {
  const wins = winner(2);
  const loses = wins === "a" ? "b" : "a";
  const newest = await met(stateOf(loses, 2), [], [changeOf(wins, 2)], [changeOf(loses, 2)]);
  expect(newest?.state.revision).toBe(2);
  expect(new Set(newest?.state.blocks)).toEqual(new Set(stateOf(wins, 2).blocks));
  expect(rootOf(wins, 2) > rootOf(loses, 2)).toBe(true);
  expect(await met(stateOf(wins, 2), [changeOf(wins, 2)], [changeOf(loses, 2)], [])).toBe(
    undefined,
  );
});
