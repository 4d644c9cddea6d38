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
import type { NodeId } from "../../shared/ids.ts";
import { failOnCrashes } from "../support/crashes.ts";
import { nodeId } from "../support/cluster.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../support/fake-host.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-control-"));
let cluster: FakeCluster;
let host: FakeHost;

beforeAll(async () => {
  cluster = await fakeCluster(1, directory);
  [host] = cluster.hosts as [FakeHost];
});

afterAll(async () => {
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
});

const kind = fc.constantFrom(
  "join",
  "state",
  "createNetwork",
  "nameNetwork",
  "removeNetwork",
  "allotBlock",
  "grantAddress",
  "returnBlock",
  "networkKey",
);
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
const network = fc.record(
  {
    name: value,
    subnets: fc.array(
      fc.record(
        { subnet: text, gateway: text, reserved: fc.array(text) },
        { requiredKeys: ["subnet"] },
      ),
      { maxLength: 3 },
    ),
    internal: fc.boolean(),
    attachable: fc.boolean(),
    labels: fc.dictionary(text, text, { maxKeys: 3 }),
    driverOptions: fc.constantFrom({}, { foo: "bar" }, { mtu: "1400" }),
  },
  { requiredKeys: ["subnets", "internal", "attachable", "labels", "driverOptions"] },
);
const request = fc
  .record(
    {
      v: fc.constantFrom<unknown>(1, 1, 1, 2, "1"),
      kind,
      network: fc.oneof(network, fc.constant("0f".repeat(16)), value),
      ip: value,
      block: value,
      name: value,
      labels: value,
      attachable: value,
      revision: value,
      id: value,
      secret: value,
      facts: value,
    },
    { requiredKeys: ["v", "kind", "network", "revision"] },
  )
  .map((body) => encodeCbor(body));

test("whatever comes is answered; a refusal changes nothing, and all that is made can be read", async () => {
  const kinds = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(
      fc.oneof({ arbitrary: request, weight: 5 }, fc.uint8Array({ maxLength: 200 })),
      fc.boolean(),
      async (bytes, member) => {
        const from: NodeId = member ? host.agent.identity.node : nodeId(9);
        const before = JSON.stringify(await cluster.controller.state());
        const raw = await answerRequest(cluster.controller, from, bytes);
        const answer = ControlAnswer.parse(decodeCbor(raw, BOUNDS.stateBytes * 2));
        kinds.set(answer.kind, (kinds.get(answer.kind) ?? 0) + 1);
        const after = await cluster.controller.state();
        expect(ClusterState.parse(after)).toEqual(after);
        if (answer.kind !== "failed") return;
        expect(JSON.stringify(after)).toBe(before);
        expect(answer.failure.message).not.toBe("");
        expect(answer.failure.code).not.toBe("INTERNAL");
      },
    ),
    { numRuns: 400 },
  );
  expect([...kinds.keys()]).toEqual(expect.arrayContaining(["failed", "network", "state", "done"]));
});
