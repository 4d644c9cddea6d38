import { expect, test } from "vitest";
import { unservedVips, vipsStatus } from "../../../agent/api/vips-status.ts";
import type { ClientStatus } from "../../../agent/balancing/port.ts";
import { Ip } from "../../../shared/ip.ts";
import { app, clusterState } from "../../support/cluster.ts";

const [web, db] = ["10.7.0.200", "10.7.0.201"].map((text) => Ip.parse(text)) as [Ip, Ip];
const client = (
  id: string,
  state: ClientStatus["state"],
  ips: readonly Ip[] = [],
  problem?: string,
): ClientStatus => ({
  id,
  state,
  problem,
  served: ips.map((ipv4) => ({ network: app.id, name: "web", ipv4, ipv6: undefined })),
});

test("status counts containers by how their virtual addresses are served, with what is wrong", () => {
  const clients = [
    client("a", "served", [web]),
    client("b", "failed", [web], "EPERM"),
    client("c", "idle"),
  ];
  const balancing = { clients: () => clients, counters: () => ({ written: 3 }) };
  expect(vipsStatus(balancing, { state: clusterState(1), hosts: new Map() })).toEqual({
    vips: 0,
    clients: { idle: 1, waiting: 0, served: 1, failed: 1 },
    lastProblem: "EPERM",
    without: [],
    counters: { written: 3 },
  });
});

test("verify names containers without their virtual addresses, and where rules were put back", () => {
  const wanted = new Map([
    ["a", [web, db]],
    ["b", [web]],
    ["c", [web]],
    ["d", [db]],
    ["e", []],
  ]);
  const clients = [
    client("a", "served", [web]),
    client("b", "failed", [web], "EPERM"),
    client("c", "served", [web]),
    client("d", "waiting", [], "Docker has not made its namespace"),
  ];
  expect(unservedVips(wanted, clients, ["c"])).toEqual([
    "sandbox c: somebody changed its rules of virtual addresses; they are put back",
    `${db} are not served in sandbox a, where the names answer their members`,
    "sandbox b: EPERM",
    `${db} are not served in sandbox d, where the names answer their members: Docker has not made its namespace`,
  ]);
});
