import { beforeEach, expect, test } from "vitest";
import { CountedMesh } from "../../../agent/replication/counted-mesh.ts";
import type { MeshHandlers } from "../../../agent/replication/gossip/port.ts";
import {
  CLUSTER_TOPIC,
  FOR_CLUSTER,
  FOR_KEYS,
  FOR_NETWORK,
  requestFor,
  topicOf,
} from "../../../agent/replication/request-kinds.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { MemoryMesh } from "../../fakes/memory-mesh.ts";
import { app, nodeId } from "../../support/cluster.ts";

const [one, two] = [nodeId(1), nodeId(2)];
const ADMITTED = { revision: 1, nodes: [one, two], revoked: [] };
let asking: CountedMesh;
let answering: CountedMesh;

beforeEach(async () => {
  const net = new Map<NodeId, MemoryMesh>();
  [asking, answering] = [one, two].map((node) => new CountedMesh(new MemoryMesh(node, net))) as [
    CountedMesh,
    CountedMesh,
  ];
  const handlers: MeshHandlers = {
    message: () => {},
    // An answer of ten bytes.
    request: () => Promise.resolve(new Uint8Array(10)),
    connected: () => {},
    disconnected: () => {},
  };
  for (const mesh of [asking, answering]) {
    await mesh.start(handlers);
    mesh.admit(ADMITTED);
    for (const topic of [CLUSTER_TOPIC, topicOf(app.id)]) await mesh.join(topic, undefined);
  }
  asking.wantPeers([{ node: two, address: "198.51.100.2" as never, port: 7947 }]);
});

test("each message and question is counted on both sides, with its bytes, by what it is for", async () => {
  await asking.publish(CLUSTER_TOPIC, new Uint8Array(100));
  await asking.publish(topicOf(app.id), new Uint8Array(200));
  for (const part of [FOR_CLUSTER, FOR_NETWORK, FOR_KEYS])
    await asking.request(two, requestFor(part, new Uint8Array(part * 10)), 1000);
  const expected = (gossip: "In" | "Out", question: "In" | "Out", answer: "In" | "Out") => ({
    [`clusterGossip${gossip}`]: 1,
    [`clusterGossip${gossip}Bytes`]: 100,
    [`networkGossip${gossip}`]: 1,
    [`networkGossip${gossip}Bytes`]: 200,
    // With the byte that says which part of the host is asked.
    [`clusterSync${question}Bytes`]: 1,
    [`networkSync${question}Bytes`]: 11,
    [`keys${question}Bytes`]: 21,
    [`clusterSync${answer}Bytes`]: 10,
    [`networkSync${answer}`]: 1,
    [`networkSync${answer}Bytes`]: 10,
    [`keys${answer}Bytes`]: 10,
  });
  expect(await asking.counters()).toMatchObject(expected("Out", "Out", "In"));
  expect(await answering.counters()).toMatchObject(expected("In", "In", "Out"));
});

test("what nobody answers is counted as asked, and of no known part not at all", async () => {
  await expect(
    asking.request(nodeId(3), requestFor(FOR_KEYS, new Uint8Array(4)), 50),
  ).rejects.toThrow();
  await asking.request(two, Uint8Array.of(9, 9), 1000);
  expect(await asking.counters()).toMatchObject({ keysOut: 1, keysOutBytes: 5, keysIn: 0 });
  const all = Object.entries(await asking.counters()).filter(([name]) => name.endsWith("Out"));
  expect(all.reduce((sum, [, count]) => sum + count, 0)).toBe(1);
});
