import { expect, test } from "vitest";
import { admitNode } from "../../../controller/core/admission.ts";
import { createNetwork } from "../../../controller/core/networks.ts";
import { newCluster } from "../../../controller/core/record.ts";
import { changeUnderlay } from "../../../controller/core/underlay.ts";
import { decodeRecord, encodeRecord } from "../../../controller/encoded-record.ts";
import { Cidr } from "../../../shared/ip.ts";
import { node, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const context = { wallMs: 1_000_000, random: seededRandom(1) };
const vpn = Cidr.parse("10.77.0.0/16");
const now = { underlayMtuBytes: 1400, ownSubnets: [vpn] };
const network = (name: string, subnet?: string) => ({
  name,
  subnets: subnet === undefined ? [] : [{ subnet: Cidr.parse(subnet) }],
  internal: false,
  attachable: true,
  labels: {},
  driverOptions: {},
});

function cluster() {
  let record = newCluster(
    { controllerPeer: nodeId(9), controllerNode: nodeId(1), address: node(1).address },
    context,
  );
  for (let k = 1; k <= 2; k++) record = admitNode(record, nodeId(k), node(k), undefined, 0).record;
  return createNetwork(record, nodeId(1), network("before"), context).record;
}

test("a member's MTU and subnets follow its interfaces: new networks heed them, those there stay", () => {
  const before = cluster();
  const { record, result } = changeUnderlay(before, nodeId(2), now);
  expect(result).toEqual({ ...node(2), ...now });
  expect(record.state).toEqual({
    ...before.state,
    revision: before.state.revision + 1,
    nodes: [before.state.nodes[0], result],
  });
  expect(decodeRecord(encodeRecord(record))).toEqual(record);
  const made = createNetwork(record, nodeId(1), network("after"), context).result;
  expect([record.state.networks[0]?.mtuBytes, made.mtuBytes]).toEqual([1450, 1350]);
  expect(() => createNetwork(record, nodeId(1), network("vpn", "10.77.1.0/24"), context)).toThrow(
    /10\.77\.1\.0\/24 overlaps 10\.77\.0\.0\/16, which host h2 uses/,
  );
  const back = changeUnderlay(record, nodeId(2), node(2)).record;
  expect(createNetwork(back, nodeId(1), network("after"), context).result.mtuBytes).toBe(1450);
});

test("asked twice it is so once; who is no member changes nothing", () => {
  const { record } = changeUnderlay(cluster(), nodeId(2), now);
  expect(changeUnderlay(record, nodeId(2), now).record).toBe(record);
  expect(() => changeUnderlay(record, nodeId(3), now)).toThrow(/is not \(or no longer\) a member/);
});
