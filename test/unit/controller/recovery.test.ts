import { expect, test } from "vitest";
import { admitNode } from "../../../controller/core/admission.ts";
import { allotBlock } from "../../../controller/core/blocks.ts";
import { createNetwork, removeNetwork } from "../../../controller/core/networks.ts";
import { newCluster } from "../../../controller/core/record.ts";
import { recovered } from "../../../controller/core/recovery.ts";
import { Ip } from "../../../shared/ip.ts";
import { node, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const context = { wallMs: 1_000_000, random: seededRandom(1) };
const plain = { subnets: [], internal: false, attachable: true, labels: {}, driverOptions: {} };

const first = admitNode(
  newCluster(
    { controllerPeer: nodeId(9), controllerNode: nodeId(1), address: Ip.parse("198.51.100.1") },
    context,
  ),
  nodeId(1),
  node(1),
  undefined,
  0,
).record;
const backup = createNetwork(first, nodeId(1), { ...plain, name: "old" }, context).record;
const gone = createNetwork(backup, nodeId(1), { ...plain, name: "gone" }, context);
const made = createNetwork(
  removeNetwork(gone.record, nodeId(1), gone.result.id).record,
  nodeId(1),
  { ...plain, name: "new" },
  context,
);
const newest = allotBlock(made.record, nodeId(1), made.result.id, 4).record;

test("what the mesh holds counts, and is signed anew above it", () => {
  const record = recovered(backup, newest.state, context);
  expect(record.state.networks.map(({ name }) => name)).toEqual(["old", "new"]);
  expect(record.state.blocks).toEqual(newest.state.blocks);
  expect(record.state.revision).toBeGreaterThan(newest.state.revision);
});

test("no VNI and no index comes again, not even of what was made and ended in between", () => {
  const record = recovered(backup, newest.state, context);
  const next = createNetwork(record, nodeId(1), { ...plain, name: "next" }, context).result;
  const used = [gone.result, made.result].map(({ vni }) => vni);
  expect(Math.max(...used)).toBeLessThan(next.vni);
});

test("a key that the backup knows stays, one that it does not is made anew", () => {
  const record = recovered(backup, newest.state, context);
  const [old, fresh] = record.state.networks;
  expect(record.networkKeys[old!.id]).toBe(backup.networkKeys[old!.id]);
  expect(record.networkKeys[fresh!.id]).not.toBe(newest.networkKeys[fresh!.id]);
  expect([old?.keyEpoch, fresh?.keyEpoch]).toEqual([1, 2]);
});

test("of an older or the same state nothing is taken", () => {
  expect(recovered(newest, backup.state, context)).toBe(newest);
  expect(recovered(newest, newest.state, context)).toBe(newest);
});
