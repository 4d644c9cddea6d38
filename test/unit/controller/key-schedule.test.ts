import { describe, expect, test } from "vitest";
import { changeKeySchedule, rotateDueKeys } from "../../../controller/core/key-schedule.ts";
import { createNetwork } from "../../../controller/core/networks.ts";
import { admitNode } from "../../../controller/core/admission.ts";
import { newCluster } from "../../../controller/core/record.ts";
import { DEFAULT_SETTINGS } from "../../../shared/cluster-state.ts";
import { Ip } from "../../../shared/ip.ts";
import { node, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const random = seededRandom(1);
const plain = { subnets: [], internal: false, attachable: true, labels: {}, driverOptions: {} };
const empty = newCluster(
  { controllerPeer: nodeId(9), controllerNode: nodeId(1), address: Ip.parse("198.51.100.1") },
  { wallMs: 0, random },
);
const first = admitNode(empty, nodeId(1), node(1), undefined, 0).record;
const standard = DEFAULT_SETTINGS.keySchedule;

describe("the key schedule", () => {
  test("what is not given stays, and nothing given changes nothing", () => {
    expect(changeKeySchedule(first, {})).toEqual({ record: first, result: standard });
    expect(changeKeySchedule(first, { ipsecMs: undefined }).record).toBe(first);
    const { record, result } = changeKeySchedule(first, { ipsecMs: 600_000 });
    expect(result).toEqual({ ...standard, ipsecMs: 600_000 });
    expect(record.state.settings.keySchedule).toEqual(result);
    expect(record.state.revision).toBe(first.state.revision + 1);
  });

  test.each([
    [{ ipsecMs: 9999 }, /ipsecMs: .*10000/],
    [{ ipsecPackets: 2 ** 31 + 1 }, /ipsecPackets: .*2147483648/],
    [{ ipsecBytes: 1 }, /ipsecBytes: .*1048576/],
    [{ gossipMs: 1 }, /gossipMs: .*3600000/],
    [{ gossipMs: Number.NaN }, /gossipMs/],
  ])("%o is refused with its bound", (changes, reason) => {
    expect(() => changeKeySchedule(first, changes)).toThrow(reason);
  });

  test("a gossip key as old as allowed is made anew, once, and younger ones stay", () => {
    const due = standard.gossipMs;
    const old = createNetwork(first, nodeId(1), { ...plain, name: "old" }, { wallMs: 0, random });
    const young = { ...plain, name: "young" };
    const { record } = createNetwork(old.record, nodeId(1), young, { wallMs: 1, random });
    expect(rotateDueKeys(record, { wallMs: due - 1, random })).toBe(record);
    const rotated = rotateDueKeys(record, { wallMs: due, random });
    const epochs = rotated.state.networks.map(({ name, keyEpoch }) => [name, keyEpoch]);
    expect(epochs).toEqual([
      ["old", 2],
      ["young", 1],
    ]);
    expect(rotated.networkKeys[old.result.id]).not.toBe(record.networkKeys[old.result.id]);
    expect(rotateDueKeys(rotated, { wallMs: due, random })).toBe(rotated);
    const again = rotateDueKeys(rotated, { wallMs: 2 * due, random });
    expect(again.state.networks.map(({ keyEpoch }) => keyEpoch)).toEqual([3, 2]);
  });
});
