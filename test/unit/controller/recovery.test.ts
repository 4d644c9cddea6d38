import { describe, expect, test } from "vitest";
import { admitNode, revokeNode } from "../../../controller/core/admission.ts";
import { allotBlock } from "../../../controller/core/blocks.ts";
import { createNetwork, removeNetwork, rotateKeys } from "../../../controller/core/networks.ts";
import { type ControllerRecord, newCluster } from "../../../controller/core/record.ts";
import { promoted, recordOf, recovered, UNHEARD } from "../../../controller/core/recovery.ts";
import { behind, standingOf } from "../../../controller/core/standing.ts";
import { issueToken } from "../../../controller/core/tokens.ts";
import { Ip } from "../../../shared/ip.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { changesOf, generationOf } from "../../../shared/revision.ts";
import { node, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const context = { wallMs: 1_000_000, random: seededRandom(1) };
const plain = { subnets: [], internal: false, attachable: true, labels: {}, driverOptions: {} };
const admit = (record: ControllerRecord, k: number) =>
  admitNode(record, nodeId(k), node(k), undefined, 0);

const first = admit(
  newCluster(
    { controllerPeer: nodeId(9), controllerNode: nodeId(1), address: Ip.parse("198.51.100.1") },
    context,
  ),
  1,
).record;
const old = createNetwork(first, nodeId(1), { ...plain, name: "old" }, context).record;
const backup = issueToken(old, { ttlMs: 60_000, uses: 3 }, sha256, context).record;
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

test("it is newer than what the controller may have said to hosts that nobody reaches", () => {
  const unheard = allotBlock(newest, nodeId(1), made.result.id, 4).record;
  const record = recovered(backup, newest.state, context);
  expect(record.state.revision).toBeGreaterThan(unheard.state.revision);
  expect(recovered(newest, newest.state, context).state.revision).toBeGreaterThan(
    unheard.state.revision,
  );
});

test("no VNI comes again, not even of what was made and ended in between, or never heard of", () => {
  const unheard = createNetwork(newest, nodeId(1), { ...plain, name: "unheard" }, context).result;
  const record = recovered(backup, newest.state, context);
  const next = createNetwork(record, nodeId(1), { ...plain, name: "next" }, context).result;
  const used = [gone.result, made.result, unheard].map(({ vni }) => vni);
  expect(Math.max(...used)).toBeLessThan(next.vni);
});

test("no index comes again, and a year of other changes uses up none", () => {
  const came = admit(admit(newest, 2).record, 3).record;
  let met = revokeNode(came, "h3", 0).record;
  for (let i = 0; i < 1000; i++) met = rotateKeys(met, [], context);
  const record = recovered(backup, met.state, context);
  const { index } = admit(record, 4).result;
  expect(index).toBeGreaterThan(3);
  expect(index).toBeLessThanOrEqual(4 + UNHEARD);
});

test("a key that the backup knows stays, one that it does not is made anew", () => {
  const record = recovered(backup, newest.state, context);
  const [old, fresh] = record.state.networks;
  expect(record.networkKeys[old!.id]).toBe(backup.networkKeys[old!.id]);
  expect(record.networkKeys[fresh!.id]).not.toBe(newest.networkKeys[fresh!.id]);
  expect([old?.keyEpoch, fresh?.keyEpoch]).toEqual([1, 2]);
});

test("a key that was changed since the backup is not the backup's", () => {
  const { id } = backup.state.networks[0]!;
  const rotated = rotateKeys(newest, [id], context);
  const record = recovered(backup, rotated.state, context);
  expect(record.networkKeys[id]).not.toBe(backup.networkKeys[id]);
  expect(record.state.networks[0]?.keyEpoch).toBe(3);
});

test("tokens of the backup may have been used up: they hold no more", () => {
  expect(backup.tokens).toHaveLength(1);
  expect(recovered(backup, newest.state, context).tokens).toEqual([]);
});

test("of an older or the same state nothing is taken", () => {
  for (const met of [backup.state, newest.state, undefined]) {
    const { state, networkKeys } = recovered(newest, met, context);
    expect(state.networks).toEqual(newest.state.networks);
    expect(networkKeys).toEqual(newest.networkKeys);
  }
});

describe("a controller that takes over", () => {
  const controller = { node: nodeId(2), address: Ip.parse("198.51.100.2"), peerId: nodeId(8) };
  const next = { generation: 1, controller };

  test("is above all that the one before can ever say, and goes on with its changes", () => {
    const { state } = promoted(backup, newest.state, next, context);
    expect(generationOf(state.revision)).toBe(1);
    expect(changesOf(state.revision)).toBeGreaterThan(newest.state.revision);
    expect(state.controller).toEqual(controller);
    expect(state.networks.map(({ name }) => name)).toEqual(["old", "new"]);
  });

  test("again by another, of the next generation", () => {
    const once = promoted(backup, newest.state, next, context);
    const twice = promoted(backup, once.state, { ...next, generation: 2 }, context);
    expect(twice.state.revision).toBeGreaterThan(once.state.revision);
    expect(twice.nextVni).toBeGreaterThan(once.nextVni);
    expect(changesOf(twice.state.revision)).toBeLessThan(1000);
  });

  test("without a backup: new keys for all, and no VNI and no index twice", () => {
    const met = revokeNode(admit(newest, 2).record, "h2", 0).record;
    const record = promoted(recordOf(met.state), met.state, next, context);
    const [a, b] = record.state.networks;
    expect([a?.keyEpoch, b?.keyEpoch]).toEqual([2, 2]);
    expect(Object.keys(record.networkKeys).toSorted()).toEqual([a!.id, b!.id].toSorted());
    const { vni } = createNetwork(record, nodeId(1), { ...plain, name: "x" }, context).result;
    expect(vni).toBeGreaterThan(made.result.vni);
    expect(admit(record, 3).result.index).toBeGreaterThan(2);
  });
});

describe("standing", () => {
  test("a controller that knows all serves", () => {
    expect(standingOf(newest, undefined)).toBeUndefined();
    expect(standingOf(newest, newest.state)).toBeUndefined();
    expect(standingOf(newest, backup.state)).toBeUndefined();
    expect(behind(newest, newest.state.revision)).toBeUndefined();
  });

  test("one that was restored does not, until it has met the hosts", () => {
    const restored = { ...backup, restoredAtMs: 1 };
    expect(standingOf(restored, undefined)?.message).toMatch(/restored from a backup/);
    const record = recovered(restored, newest.state, context);
    expect(standingOf(record, newest.state)).toBeUndefined();
  });

  test("one whose data are old does not, whether it was restored by us or not", () => {
    expect(standingOf(backup, newest.state)).toMatchObject({
      code: "STALE",
      message: expect.stringMatching(/its data are old/) as string,
      next: expect.stringMatching(/recover --from-mesh/) as string,
    });
    expect(behind(backup, newest.state.revision)?.message).toMatch(/this host holds/);
  });

  test("one that another has taken over from is told to end", () => {
    const controller = { node: nodeId(2), address: Ip.parse("198.51.100.2"), peerId: nodeId(8) };
    const { state } = promoted(backup, newest.state, { generation: 1, controller }, context);
    const failure = standingOf(newest, state);
    expect(failure?.message).toMatch(/at 198\.51\.100\.2 has taken over/);
    expect(failure?.next).toMatch(/disable --now overlay-ts-controller/);
  });
});
