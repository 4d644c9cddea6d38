import { describe, expect, test } from "vitest";
import { admitNode } from "../../../controller/core/admission.ts";
import { allotBlock } from "../../../controller/core/blocks.ts";
import { createNetwork } from "../../../controller/core/networks.ts";
import { QUARANTINE_MS, released } from "../../../controller/core/quarantine.ts";
import { checkOrigin, readdressNode } from "../../../controller/core/readdress.ts";
import { type ControllerRecord, newCluster } from "../../../controller/core/record.ts";
import { decodeRecord, encodeRecord } from "../../../controller/encoded-record.ts";
import { Ip } from "../../../shared/ip.ts";
import { node, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const context = { wallMs: 1_000_000, random: seededRandom(1) };
const untilMs = context.wallMs + QUARANTINE_MS;
const at = (address: string) => {
  const ip = Ip.parse(address);
  return { address: ip, vtep: ip, underlayMtuBytes: 9000, ownSubnets: [] };
};

function cluster(): ControllerRecord {
  let record = newCluster(
    { controllerPeer: nodeId(9), controllerNode: nodeId(1), address: node(1).address },
    context,
  );
  for (let k = 1; k <= 3; k++) record = admitNode(record, nodeId(k), node(k), undefined, 0).record;
  const app = {
    name: "app",
    subnets: [],
    internal: false,
    attachable: true,
    labels: {},
    driverOptions: {},
  };
  const made = createNetwork(record, nodeId(1), app, context);
  return allotBlock(made.record, nodeId(2), made.result.id, 4).record;
}

describe("a member at another address", () => {
  const before = cluster();
  const moved = readdressNode(before, nodeId(2), at("198.51.100.52"), untilMs);

  test("is the same member: index, name and blocks stay, one revision on", () => {
    const { state } = moved.record;
    expect(state.revision).toBe(before.state.revision + 1);
    expect(moved.result).toEqual({ ...node(2), ...at("198.51.100.52") });
    expect(state.nodes[1]).toEqual(moved.result);
    expect(state.blocks).toEqual(before.state.blocks);
    expect(state.controller).toEqual(before.state.controller);
  });

  test("asked twice it is so once, and what it left is remembered on disk", () => {
    const again = readdressNode(moved.record, nodeId(2), at("198.51.100.52"), untilMs + 1);
    expect(again.record).toBe(moved.record);
    expect(again.result).toEqual(moved.result);
    expect(decodeRecord(encodeRecord(moved.record))).toEqual(moved.record);
  });

  test("what it left is nobody else's for ten minutes, also not a new host's, and its own at once", () => {
    const old = at("198.51.100.2");
    const next = { ...node(4), ...old };
    for (const take of [
      (record: ControllerRecord) => readdressNode(record, nodeId(3), old, untilMs),
      (record: ControllerRecord) => admitNode(record, nodeId(4), next, undefined, 0),
    ]) {
      expect(() => take(released(moved.record, untilMs - 1))).toThrow(/h2 until a moment ago/);
      expect(take(released(moved.record, untilMs)).result.address).toBe(old.address);
    }
    const back = readdressNode(moved.record, nodeId(2), old, untilMs);
    expect(back.result.address).toBe(old.address);
    expect(() => readdressNode(back.record, nodeId(3), at("198.51.100.52"), untilMs)).toThrow(
      /until a moment ago/,
    );
  });

  test("not at that of another one, in another family, or if it is none", () => {
    expect(() => readdressNode(before, nodeId(2), at("198.51.100.3"), untilMs)).toThrow(
      /h3 has the address 198\.51\.100\.3/,
    );
    expect(() => readdressNode(before, nodeId(2), at("2001:db8::2"), untilMs)).toThrow(
      /not an IPv4/,
    );
    expect(() => readdressNode(before, nodeId(4), at("198.51.100.52"), untilMs)).toThrow(
      /not \(or no longer\) a member/,
    );
  });

  test("behind NAT or not as it says now; the controller moves with its host", () => {
    const behindNat = Ip.parse("192.0.2.7");
    const nat = readdressNode(before, nodeId(2), { ...at("198.51.100.2"), behindNat }, untilMs);
    expect(nat.result.behindNat).toBe(behindNat);
    expect(nat.record.formerAddresses).toBeUndefined();
    const out = readdressNode(nat.record, nodeId(2), at("198.51.100.2"), untilMs);
    expect(out.result).not.toHaveProperty("behindNat");
    const { state } = readdressNode(before, nodeId(1), at("198.51.100.51"), untilMs).record;
    expect(state.controller).toEqual({ ...before.state.controller, address: "198.51.100.51" });
  });

  test("it says so from where it is", () => {
    const [here, elsewhere] = [Ip.parse("198.51.100.52"), Ip.parse("198.51.100.53")];
    expect(() => checkOrigin(here, here)).not.toThrow();
    expect(() => checkOrigin(here, elsewhere)).toThrow(/came from 198\.51\.100\.53, not from/);
    expect(() => checkOrigin(here, undefined)).toThrow(/unknown address/);
  });
});
