import { describe, expect, test } from "vitest";
import { givesAllVips, labelledNames, vipWish } from "../../../agent/core/balancing/vip-wish.ts";
import { unheldVips } from "../../../agent/core/balancing/unheld.ts";
import { withoutVips } from "../../../agent/core/balancing/serves-vips.ts";
import type { HostDocument, NetworkDocument } from "../../../shared/documents.ts";
import type { VipRecord } from "../../../shared/cluster-state.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { Cidr, Ip } from "../../../shared/ip.ts";
import { app, clusterState, endpoint, nodeId } from "../../support/cluster.ts";

const ID = "0123456789abcdef".repeat(4);
const container = (labels: { vip?: string; sticky?: string; service?: string }) => ({
  id: ID,
  hostname: "c1-host",
  labels,
});
const aliases = { aliases: [ID.slice(0, 12), "c1-host", "Web", "other"] };

describe("what a container asks for", () => {
  test.each([
    ["no label", {}, false, undefined],
    ["true, of Compose", { vip: "true", service: "api" }, false, "api"],
    ["true, by its first alias", { vip: "true" }, false, "web"],
    ["an empty label", { vip: "" }, false, "web"],
    ["a name", { vip: "Shop" }, false, "shop"],
    ["no, on a network that gives all", { vip: "false", service: "api" }, true, undefined],
    ["0", { vip: "0" }, true, undefined],
    ["what is no label of a name", { vip: "a.b" }, false, undefined],
    ["nothing, on a network that gives all", { service: "api" }, true, "api"],
    ["nothing, on a network that gives all, without Compose", {}, true, "web"],
  ])("%s", (_, labels, isForAll, name) => {
    const madeBy = "vip" in labels ? "label" : "network";
    const wish = name === undefined ? undefined : { name, sticky: false, madeBy };
    expect(vipWish(container(labels), aliases, isForAll)).toEqual(wish);
  });

  test("without a service it is nothing, whatever the label", () => {
    expect(vipWish(container({ vip: "true" }), { aliases: [ID.slice(0, 12)] }, true)).toBe(
      undefined,
    );
  });

  test("sticky, and what it is found by then", () => {
    const labels = { vip: "shop", sticky: "true" };
    expect(vipWish(container(labels), aliases, false)?.sticky).toBe(true);
    expect(labelledNames(container(labels), aliases)).toEqual(["shop"]);
    expect(labelledNames(container({ service: "api" }), aliases)).toEqual([]);
  });

  test.each([
    [{ vip: "true" }, true],
    [{ vip: "" }, true],
    [{ vip: "false" }, false],
    [{}, false],
  ])("a network with %j gives all: %s", (driverOptions, all) => {
    expect(givesAllVips({ driverOptions })).toBe(all);
  });
});

const vip = (name: string, madeBy: VipRecord["madeBy"] = "label"): VipRecord => ({
  network: app.id,
  name,
  ips: [Ip.parse("10.7.0.200")],
  blocks: [Cidr.parse("10.7.0.200/29")],
  sticky: false,
  madeBy,
});

/** `on`: hosts on the network, with the names that they say. */
function tables(on: Readonly<Record<number, readonly string[]>>, heard = [1, 2, 3]) {
  const state = clusterState(3, { vips: [vip("web"), vip("db", "cli"), vip("api", "network")] });
  const hosts = new Map(
    heard.map((k) => {
      const hosting = k in on ? [app.id] : [];
      const capabilities = k === 3 ? [] : ["vip-1"];
      return [nodeId(k), { node: nodeId(k), hosting, capabilities } as unknown as HostDocument];
    }),
  );
  const documents = new Map(
    Object.entries(on).map(([k, names]) => {
      const node = nodeId(Number(k));
      const endpoints = [{ ...endpoint(Number(k), 10), names: [...names] }];
      return [node, { node, endpoints } as unknown as NetworkDocument];
    }),
  );
  return { state, hosts, documents: () => documents };
}

describe("virtual addresses that nobody has", () => {
  const nobody = new Set<NodeId>();
  const names = (of: ReturnType<typeof tables>, k: number, lost = nobody) =>
    unheldVips(of, nodeId(k), lost).map(({ name }) => name);

  test("are those of labels and networks; the first host that is reached says it", () => {
    const held = tables({ 2: ["web"], 3: ["c3"] });
    const [first, second] = [2, 3].toSorted((a, b) => (nodeId(a) < nodeId(b) ? -1 : 1)) as [
      number,
      number,
    ];
    expect([names(held, first), names(held, second), names(held, 1)]).toEqual([["api"], [], []]);
    expect(names(held, second, new Set([nodeId(first)]))).toEqual(["api"]);
  });

  test("on a network without hosts the controller's says it", () => {
    const state = tables({});
    const isController = (k: number) => state.state.controller.node === nodeId(k);
    for (const k of [1, 2, 3])
      expect(names(state, k)).toEqual(isController(k) ? ["web", "api"] : []);
  });

  test("are not known while a host was not heard, or its word of the network is missing", () => {
    for (const k of [1, 2, 3]) {
      expect(names(tables({}, [1, 2]), k)).toEqual([]);
      const half = tables({ 1: [], 2: [] });
      half.documents().delete(nodeId(2));
      expect(names(half, k)).toEqual([]);
    }
  });
});

test("hosts of a version before are those that were heard and do not say it", () => {
  expect(withoutVips(tables({}))).toEqual([nodeId(3)]);
  expect(withoutVips(tables({}, [1, 2]))).toEqual([]);
});
