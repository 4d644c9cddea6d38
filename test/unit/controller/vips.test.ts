import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { admitNode } from "../../../controller/core/admission.ts";
import { allotBlock, grantAddress, returnBlock } from "../../../controller/core/blocks.ts";
import { createNetwork, removeNetwork } from "../../../controller/core/networks.ts";
import { QUARANTINE_MS, released } from "../../../controller/core/quarantine.ts";
import { type ControllerRecord, newCluster } from "../../../controller/core/record.ts";
import { recovered } from "../../../controller/core/recovery.ts";
import { addVip, endVip, removeVip } from "../../../controller/core/vips.ts";
import { recordOf, wholeOf } from "../../../controller/record-rows.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import { ClusterState, type NetworkRecord, type VipMaker } from "../../../shared/cluster-state.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { Cidr, cidrContains, cidrOverlaps, Ip, rangeOf } from "../../../shared/ip.ts";
import { changeBetween, objectsOf, stateOf, stateWith } from "../../../shared/state/objects.ts";
import { node, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const context = { wallMs: 1_000_000, random: seededRandom(1) };
const plain = { internal: false, attachable: true, labels: {}, driverOptions: {} };

function withNetwork(
  subnet: string,
  more: { ipv6?: string; dockerIpam?: boolean; reserved?: Ip[]; name?: string | undefined } = {},
): { record: ControllerRecord; network: NetworkRecord } {
  let record = newCluster(
    { controllerPeer: nodeId(9), controllerNode: nodeId(1), address: Ip.parse("198.51.100.1") },
    context,
  );
  for (let k = 1; k <= 3; k++) record = admitNode(record, nodeId(k), node(k), undefined, 0).record;
  const { ipv6, dockerIpam, reserved, name = "app" } = more;
  const subnets = [
    { subnet: Cidr.parse(subnet), dockerIpam, reserved },
    ...(ipv6 === undefined ? [] : [{ subnet: Cidr.parse(ipv6) }]),
  ];
  const request = { ...plain, ...("name" in more && more.name === undefined ? {} : { name }) };
  const made = createNetwork(record, nodeId(1), { ...request, subnets }, context);
  return { record: made.record, network: made.result };
}

function ask(network: NetworkRecord, name: string, madeBy: VipMaker = "cli", sticky = false) {
  return { network: network.id, name, sticky, madeBy };
}

const app = withNetwork("10.7.0.0/24", { ipv6: "fd07::/64" });
const web = addVip(app.record, nodeId(2), ask(app.network, "web"));

describe("a virtual address", () => {
  test("is of each subnet, in a block that no host has or gets, and several share it", () => {
    const { record, result } = web;
    expect(result.ips).toHaveLength(2);
    result.ips.forEach((ip, i) => expect(cidrContains(result.blocks[i]!, ip)).toBe(true));
    const other = addVip(record, nodeId(1), ask(app.network, "db")).result;
    expect(other.blocks).toEqual(result.blocks);
    expect(new Set([...other.ips, ...result.ips]).size).toBe(4);
    let full = record;
    const given: Cidr[] = [];
    expect(() => {
      for (;;) {
        const block = allotBlock(full, nodeId(3), app.network.id, 4);
        given.push(block.result.block);
        full = block.record;
      }
    }).toThrow(/given to some host/);
    expect(given.some((block) => cidrOverlaps(block, result.blocks[0]!))).toBe(false);
    expect(() => grantAddress(record, nodeId(3), app.network.id, result.ips[0]!)).toThrow(
      /kept for virtual addresses/,
    );
  });

  test("asked for again is the same; a label changes nothing, an admin what he says", () => {
    const labelled = addVip(app.record, nodeId(2), ask(app.network, "Web", "label"));
    expect(labelled.result.name).toBe("web");
    const again = addVip(labelled.record, nodeId(3), ask(app.network, "web", "label", true));
    expect(again.record).toBe(labelled.record);
    const admins = addVip(labelled.record, nodeId(3), ask(app.network, "web", "cli", true));
    expect(admins.result).toEqual({ ...labelled.result, madeBy: "cli", sticky: true });
    expect(addVip(admins.record, nodeId(2), ask(app.network, "web", "label")).record).toBe(
      admins.record,
    );
  });

  test("that ended is nobody's for a while, neither another name's nor a host's", () => {
    const { record, result } = web;
    const ended = removeVip(record, nodeId(1), app.network.id, "web", context).record;
    expect(ended.state).not.toHaveProperty("vips");
    const [ipv4] = result.ips;
    const others = ["a", "b"].reduce(
      (held, name) => addVip(held, nodeId(1), ask(app.network, name)).record,
      ended,
    );
    expect(others.state.vips?.flatMap(({ ips }) => ips)).not.toContain(ipv4);
    expect(() => grantAddress(ended, nodeId(1), app.network.id, ipv4!)).toThrow(
      /virtual address that was removed/,
    );
    const free = released(ended, context.wallMs + QUARANTINE_MS);
    expect(addVip(free, nodeId(1), ask(app.network, "c")).result.ips).toEqual(result.ips);
    expect(grantAddress(free, nodeId(1), app.network.id, ipv4!).result.node).toBe(nodeId(1));
  });

  test("ends when nobody has its name only if no admin made it", () => {
    const end = (record: ControllerRecord) =>
      endVip(record, nodeId(1), app.network.id, "web", context).record;
    expect(end(web.record)).toBe(web.record);
    for (const madeBy of ["label", "network"] as const) {
      const { record } = addVip(app.record, nodeId(2), ask(app.network, "web", madeBy));
      expect(end(record).state).not.toHaveProperty("vips");
      expect(end(end(record))).toEqual(end(record));
    }
  });

  test("goes with its network", () => {
    const { state } = removeNetwork(web.record, nodeId(1), app.network.id).record;
    expect(state).not.toHaveProperty("vips");
  });

  test("is refused where there is none to have, with what can be done", () => {
    const tiny = withNetwork("10.7.1.0/29", { reserved: [Ip.parse("10.7.1.6")] });
    let { record } = tiny;
    let count = 0;
    const fill = () => {
      for (; ; count++) record = addVip(record, nodeId(1), ask(tiny.network, `s${count}`)).record;
    };
    expect(fill).toThrow(
      expect.objectContaining({ code: "FULL", next: expect.stringMatching(/vip rm/) as string }),
    );
    expect(record.state.vips?.flatMap(({ ips }) => ips).toSorted()).toEqual(
      ["10.7.1.2", "10.7.1.3", "10.7.1.4", "10.7.1.5"].slice(4 - count),
    );
    const refusals: [string, RegExp][] = [
      ["a.b", /not one label/],
      ["", /not one label/],
      ["a b", /not one label/],
    ];
    for (const [name, why] of refusals)
      expect(() => addVip(app.record, nodeId(1), ask(app.network, name))).toThrow(why);
    expect(() => removeVip(app.record, nodeId(1), app.network.id, "web", context)).toThrow(
      /no virtual address for web/,
    );
    const unnamed = withNetwork("10.7.2.0/24", { dockerIpam: true, name: undefined });
    expect(() => addVip(unnamed.record, nodeId(1), ask(unnamed.network, "web"))).toThrow(
      /no name yet/,
    );
  });

  test("a network has a thousand at most", () => {
    const wide = withNetwork("10.8.0.0/16");
    const [first] = addVip(wide.record, nodeId(1), ask(wide.network, "first")).record.state.vips!;
    const vips = Array.from({ length: BOUNDS.vipsOfNetwork }, (_, i) => ({
      ...first!,
      name: `n${i}`,
    }));
    const record = { ...wide.record, state: { ...wide.record.state, vips } };
    expect(() => addVip(record, nodeId(1), ask(wide.network, "more"))).toThrow(/most it can have/);
    const { network, ...other } = ask(app.network, "more");
    expect(network).not.toBe(wide.network.id);
    expect(
      addVip(record, nodeId(1), { ...other, network: wide.network.id, name: "n5" }).record,
    ).toBe(record);
  });
});

test("rows, objects and recovery keep it", () => {
  const { record } = web;
  const rows = new Map(wholeOf(record).put);
  expect(recordOf(rows)).toEqual(record);
  expect(stateOf(record.state, objectsOf(record.state)).vips).toEqual(record.state.vips);
  const change = changeBetween(app.record.state, record.state);
  expect(change.put.map(([key]) => key)).toEqual([`vip/${app.network.id}/web`]);
  expect(stateWith(app.record.state, record.state, change).vips).toEqual(record.state.vips);
  const back = changeBetween(record.state, app.record.state);
  expect(stateWith(record.state, app.record.state, back)).not.toHaveProperty("vips");
  expect(ClusterState.parse(JSON.parse(JSON.stringify(record.state)))).toEqual(record.state);
  const after = recovered(app.record, record.state, context);
  expect(after.state.vips).toEqual(record.state.vips);
  expect(addVip(after, nodeId(1), ask(app.network, "db")).result.ips).not.toEqual(web.result.ips);
});

test("whatever is asked in whatever order, no address is two's", () => {
  const step = fc.record({
    kind: fc.constantFrom("add", "add", "end", "allot", "grant", "return", "wait"),
    host: fc.integer({ min: 1, max: 3 }),
    n: fc.nat(30),
  });
  const start = withNetwork("10.9.0.0/26", { dockerIpam: true });
  const { id } = start.network;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let { record } = start;
      let { wallMs } = context;
      /** Addresses of what ended, and when they are free again. */
      const ended = new Map<Ip, number>();
      const attempt = (change: () => { record: ControllerRecord }): void => {
        try {
          record = change().record;
        } catch (error) {
          if (!(error instanceof OverlayError)) throw error;
        }
      };
      for (const { kind, host, n } of steps) {
        record = released(record, wallMs);
        const by = nodeId(host);
        const before = record.state.vips ?? [];
        if (kind === "add") attempt(() => addVip(record, by, ask(start.network, `s${n}`)));
        else if (kind === "end") attempt(() => removeVip(record, by, id, `s${n}`, { wallMs }));
        else if (kind === "allot") attempt(() => allotBlock(record, by, id, 4));
        else if (kind === "grant")
          attempt(() => grantAddress(record, by, id, Ip.parse(`10.9.0.${30 + n}`)));
        else if (kind === "return") {
          const own = record.state.blocks.filter((block) => block.node === by);
          const block = own[n % Math.max(1, own.length)]?.block;
          if (block !== undefined) attempt(() => returnBlock(record, by, id, block));
        } else wallMs += QUARANTINE_MS / 3;
        const vips = record.state.vips ?? [];
        for (const { name, ips } of before)
          if (!vips.some((vip) => vip.name === name)) ended.set(ips[0]!, wallMs + QUARANTINE_MS);
        const ips = vips.flatMap((vip) => vip.ips);
        expect(new Set(ips).size).toBe(ips.length);
        for (const ip of ips) expect(ended.get(ip) ?? 0).toBeLessThanOrEqual(wallMs);
        const kept = vips.flatMap((vip) => vip.blocks);
        const { first, last } = rangeOf(start.network.subnets[0]!.subnet);
        expect(ips).not.toContain(start.network.subnets[0]!.gateway);
        for (const { block, node: holder } of record.state.blocks) {
          const isDockers = holder === nodeId(1) && rangeOf(block).first === first;
          expect(kept.some((own) => cidrOverlaps(own, block))).toBe(false);
          expect(isDockers || rangeOf(block).last <= last).toBe(true);
          for (const [ip, untilMs] of ended)
            expect(untilMs > wallMs && cidrContains(block, ip)).toBe(false);
        }
      }
    }),
    { numRuns: 60 },
  );
});
