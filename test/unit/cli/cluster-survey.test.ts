import { expect, test } from "vitest";
import type {
  ClusterSyncAnswer,
  ClusterSyncRequest,
} from "../../../agent/core/tables/cluster-messages.ts";
import type { Mesh, MeshHandlers, MeshPeer } from "../../../agent/replication/gossip/port.ts";
import { ClusterSurvey } from "../../../agent/cli/cluster-survey.ts";
import { FOR_CLUSTER, FOR_NETWORK, requestFor } from "../../../agent/replication/request-kinds.ts";
import type { ClusterState, SignedState } from "../../../shared/cluster-state.ts";
import { decodeCbor, encodeCbor } from "../../../shared/codec.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";

const signed = (state: ClusterState): SignedState => ({
  jws: JSON.stringify(state),
  controllerCertificate: "",
});
/** What is not marked as forged holds. */
const verify = (state: SignedState): Promise<ClusterState> =>
  state.controllerCertificate === "forged"
    ? Promise.reject(new Error("forged"))
    : Promise.resolve(JSON.parse(state.jws) as ClusterState);
const at = (revision: number, nodes: number): SignedState =>
  signed(clusterState(nodes, { revision }));

/** Hosts that answer with the state they hold when the asker's is older; others are not reached. */
class Hosts {
  readonly held: Map<NodeId, SignedState>;
  readonly asked: NodeId[] = [];
  handlers: MeshHandlers | undefined;
  #connected = new Set<NodeId>();

  constructor(held: readonly (readonly [number, SignedState])[]) {
    this.held = new Map(held.map(([k, state]) => [nodeId(k), state]));
  }

  readonly mesh = {
    start: async (handlers: MeshHandlers) => void (this.handlers = handlers),
    join: async () => {},
    stop: async () => {},
    wantPeers: (peers: readonly MeshPeer[]) => {
      for (const { node } of peers)
        if (this.held.has(node) && !this.#connected.has(node)) {
          this.#connected.add(node);
          setImmediate(() => this.handlers?.connected(node));
        }
    },
    connections: () => [...this.#connected],
    /** Who hears of a newer one fetches it. */
    publish: async () => {
      for (const node of this.#connected) {
        const { revision } = JSON.parse(this.held.get(node)!.jws) as ClusterState;
        const request: ClusterSyncRequest = { v: 1, kind: "fetchCluster", revision, nodes: [] };
        const answer = await this.ask(node, FOR_CLUSTER, request);
        if (answer.kind === "cluster" && answer.state) this.held.set(node, answer.state);
      }
    },
    request: async (node: NodeId, bytes: Uint8Array) => {
      this.asked.push(node);
      const request = decodeCbor(bytes.subarray(1), 1e6) as ClusterSyncRequest;
      const state = this.held.get(node)!;
      const { revision } = JSON.parse(state.jws) as ClusterState;
      const answer: ClusterSyncAnswer =
        request.kind === "compareCluster"
          ? { v: 1, kind: "clusterDigest", revision, digest: [] }
          : {
              v: 1,
              kind: "cluster",
              hosts: [],
              ...("revision" in request && revision > request.revision ? { state } : {}),
            };
      return encodeCbor(answer);
    },
  } as unknown as Mesh;

  async ask(from: NodeId, part: number, request: ClusterSyncRequest): Promise<ClusterSyncAnswer> {
    const bytes = await this.handlers!.request(from, requestFor(part, encodeCbor(request)));
    return decodeCbor(bytes, 1e6) as ClusterSyncAnswer;
  }
}

const known = clusterState(3, { revision: 5 });

test("of several the highest wins; who joined since is asked too", async () => {
  const hosts = new Hosts([
    [1, at(6, 3)],
    [2, at(9, 4)],
    [3, at(5, 3)],
    [4, at(10, 4)],
  ]);
  const { newest, answered, silent } = await new ClusterSurvey(hosts.mesh, known, verify).meet();
  expect(newest?.state.revision).toBe(10);
  expect(answered.toSorted()).toEqual([1, 2, 3, 4].map(nodeId));
  expect(silent).toEqual([]);
});

test("what is forged does not count, nor does who told it; who is away is named", async () => {
  const hosts = new Hosts([
    [1, { ...at(99, 3), controllerCertificate: "forged" }],
    [2, at(7, 3)],
  ]);
  const { newest, answered, silent } = await new ClusterSurvey(hosts.mesh, known, verify).meet(50);
  expect(newest?.state.revision).toBe(7);
  expect(answered).toEqual([nodeId(2)]);
  expect(silent).toEqual([nodeId(1), nodeId(3)]);
});

test("nobody has more than was known", async () => {
  const hosts = new Hosts([1, 2, 3].map((k) => [k, at(5, 3)] as const));
  const { newest, answered } = await new ClusterSurvey(hosts.mesh, known, verify).meet();
  expect(newest).toBeUndefined();
  expect(answered).toHaveLength(3);
});

test("a newer state is told, and who holds it is known", async () => {
  const hosts = new Hosts([1, 2, 3].map((k) => [k, at(5, 3)] as const));
  const meeting = new ClusterSurvey(hosts.mesh, known, verify);
  await meeting.meet();
  expect((await meeting.tell(at(8, 3), 8)).toSorted()).toEqual([1, 2, 3].map(nodeId));
  for (const state of hosts.held.values()) expect(state).toEqual(at(8, 3));
});

test("nobody takes itself for in sync by comparing with it", async () => {
  const hosts = new Hosts([[1, at(8, 3)]]);
  const meeting = new ClusterSurvey(hosts.mesh, known, verify);
  await meeting.meet(1);
  const hash = new Uint8Array(32);
  const compare = (revision: number) =>
    hosts.ask(nodeId(1), FOR_CLUSTER, { v: 1, kind: "compareCluster", revision, hash });
  await expect(compare(5)).rejects.toMatchObject({ code: "FORBIDDEN" });
  await meeting.tell(at(8, 3), 8);
  await expect(compare(8)).rejects.toMatchObject({ code: "FORBIDDEN" });
  expect(await compare(7)).toMatchObject({ kind: "clusterDigest", revision: 8 });
  const elsewhere = hosts.ask(nodeId(1), FOR_NETWORK, {
    v: 1,
    kind: "compareCluster",
    revision: 1,
    hash,
  });
  await expect(elsewhere).rejects.toMatchObject({ code: "FORBIDDEN" });
});
