import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { answerRequest } from "../../controller/wire/answer.ts";
import { ControlAnswer } from "../../controller/wire/messages.ts";
import { BOUNDS } from "../../shared/bounds.ts";
import { ClusterState } from "../../shared/cluster-state.ts";
import { decodeCbor, encodeCbor } from "../../shared/codec.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import { failOnCrashes } from "../support/crashes.ts";
import { nodeId } from "../support/cluster.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../support/fake-host.ts";
import { makeNetwork } from "../support/plugin-bodies.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-control-"));
let cluster: FakeCluster;
let host: FakeHost;

beforeAll(async () => {
  cluster = await fakeCluster(1, directory);
  [host] = cluster.hosts as [FakeHost];
  await makeNetwork(host);
});

afterAll(async () => {
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
});

const text = fc.constantFrom(
  "",
  "app",
  "10.7.0.0/24",
  "10.7.0.9",
  "fd00::/64",
  "0f".repeat(16),
  "\0",
);
const value = fc.oneof(
  text,
  fc.integer(),
  fc.double({ noDefaultInfinity: true, noNaN: true }),
  fc.boolean(),
  fc.constant(null),
  fc.uint8Array({ maxLength: 40 }),
  fc.dictionary(text, text, { maxKeys: 3 }),
  fc.array(fc.record({ subnet: text, gateway: text }, { requiredKeys: [] }), { maxLength: 3 }),
);
const field = fc.constantFrom(
  "v",
  "kind",
  "network",
  "ip",
  "block",
  "name",
  "labels",
  "attachable",
  "revision",
  "id",
  "secret",
  "facts",
  "more",
);
const plain = { internal: false, attachable: true, labels: {}, driverOptions: {} };

/** Requests as hosts make them; those of `app` succeed more than once. */
const GOOD: [string, (app: NetworkId) => object][] = [
  ["state", () => ({ revision: 0 })],
  ["createNetwork", () => ({ network: { ...plain, subnets: [{ subnet: "10.9.0.0/24" }] } })],
  ["nameNetwork", (network) => ({ network, name: "app", labels: {}, attachable: true })],
  ["removeNetwork", () => ({ network: "0e".repeat(16) })],
  ["allotBlock", (network) => ({ network })],
  ["grantAddress", (network) => ({ network, ip: "10.7.0.9" })],
  ["returnBlock", (network) => ({ network, block: "10.7.0.200/32" })],
  ["networkKey", (network) => ({ network })],
];

test.each(GOOD)(
  "%s: whatever comes is answered; a refusal changes nothing, and what is made can be read",
  async (kind, good) => {
    const [app] = (await cluster.controller.state()).networks;
    if (app === undefined) throw new Error("there is a network");
    const nearly = fc
      .dictionary(field, value, { maxKeys: 1 })
      .map((changes) => encodeCbor({ v: 1, kind, ...good(app.id), ...changes }));
    const seen = new Set<string>();
    await fc.assert(
      fc.asyncProperty(
        fc.oneof({ arbitrary: nearly, weight: 4 }, fc.uint8Array({ maxLength: 100 })),
        fc.boolean(),
        async (bytes, member) => {
          const from: NodeId = member ? host.agent.identity.node : nodeId(9);
          const before = JSON.stringify(await cluster.controller.state());
          const raw = await answerRequest(cluster.controller, from, bytes);
          const answer = ControlAnswer.parse(decodeCbor(raw, BOUNDS.stateBytes * 2));
          const after = await cluster.controller.state();
          expect(ClusterState.parse(after)).toEqual(after);
          seen.add(answer.kind === "failed" ? "failed" : "done");
          if (answer.kind !== "failed") return;
          expect(JSON.stringify(after)).toBe(before);
          expect(answer.failure.message).not.toBe("");
          expect(answer.failure.code).not.toBe("INTERNAL");
        },
      ),
      { numRuns: 80 },
    );
    expect(seen).toEqual(new Set(["failed", "done"]));
  },
);
