import { desiredGuards } from "../../agent/core/data-plane/desired-guards.ts";
import { desired, plainPaths } from "../../agent/core/data-plane/desired-network.ts";
import { HeldNetwork, nothingOf } from "../../agent/core/data-plane/held-network.ts";
import type { Wanted } from "../../agent/core/data-plane/kernel-state.ts";
import { plan } from "../../agent/core/data-plane/plan.ts";
import { readNetwork } from "../../agent/core/data-plane/read-network.ts";
import { namedHosts } from "../../agent/core/names/names.ts";
import { ToldHolders } from "../../agent/core/names/told-holders.ts";
import { Tables } from "../../agent/core/tables/tables.ts";
import { GuardElements, scriptOf } from "../../agent/kernel/nft/guard-sets.ts";
import type { Endpoint, NetworkDocument } from "../../shared/documents.ts";
import { EndpointId } from "../../shared/ids.ts";
import { Cidr, Ip } from "../../shared/ip.ts";
import { ruleMac } from "../../shared/mac.ts";
import { app, clusterState, hostDocument, nodeId } from "../support/cluster.ts";
import { median, round } from "./statistics.ts";

/**
 * What one container more or less on another host costs this one, in microseconds of computing, beside mesh, disk and
 * kernel: `node test/bench/one-change.ts`. Medians of 300 changes, after 60 that only warm up, on networks of 1,000,
 * 5,000 and 10,000 containers on ten and on fifty hosts.
 */

const WARM_UP = 60;
const CHANGES = 300;
const SELF = nodeId(1);

/** Container `n` of host `k`, in that host's /22 of the network. */
function container(k: number, n: number): Endpoint {
  const place = k * 1024 + n;
  const ipv4 = Ip.parse(`10.192.${place >> 8}.${place & 255}`);
  const id = EndpointId.parse(place.toString(16).padStart(64, "0"));
  return { id, ipv4, mac: ruleMac(ipv4), names: [`c${place}`] };
}

function clusterOf(hostCount: number, perHost: number): Tables {
  const tables = new Tables();
  const hosts = Array.from({ length: hostCount }, (_, i) => i + 1);
  const blocks = hosts.map((k) => ({
    network: app.id,
    block: Cidr.parse(`10.192.${k * 4}.0/22`),
    node: nodeId(k),
  }));
  tables.mergeState(clusterState(hostCount, { blocks }));
  for (const k of hosts) {
    tables.mergeHost(hostDocument(k, { hosting: [app.id] }));
    const endpoints = Array.from({ length: perHost }, (_, n) => container(k, n + 2));
    tables.mergeNetwork(documentOf(k, 1, endpoints));
  }
  return tables;
}

function documentOf(k: number, seq: number, endpoints: Endpoint[]): NetworkDocument {
  const version = { incarnation: 1, seq };
  return { network: app.id, node: nodeId(k), version, endpoints, signature: new Uint8Array(64) };
}

/** By part. */
function costOf(hosts: number, perHost: number): Record<string, number> {
  const tables = clusterOf(hosts, perHost);
  const held = new HeldNetwork(nothingOf(app.id));
  const costs = new Map<string, number[]>();
  let elements: GuardElements | undefined;
  const told = new ToldHolders();

  const costing = <T>(part: string, work: () => T): T => {
    const begunMs = performance.now();
    const made = work();
    costs.set(part, [...(costs.get(part) ?? []), performance.now() - begunMs]);
    return made;
  };

  const change = (i: number): void => {
    const k = 2 + (i % (hosts - 1));
    const { endpoints, version } = tables.documents(app.id).get(nodeId(k))!;
    const changed =
      endpoints.length > perHost
        ? endpoints.slice(0, -1)
        : [...endpoints, container(k, perHost + 5 + (i % 7))];
    tables.mergeNetwork(documentOf(k, version.seq + 1, changed));
    costing("rules", () => readNetwork(tables, app));
    costing("plan", () => {
      const network = desired(tables, SELF, app.id, plainPaths(tables, SELF))!;
      const wanted: Wanted = { kind: "present", desired: network, prune: true };
      for (const step of plan(held, wanted)) held.carriedOut(step);
      held.reached(wanted);
    });
    costing("guards", () => {
      const guards = desiredGuards(tables, SELF, ["none"])!;
      elements ??= new GuardElements(guards);
      scriptOf("overlay_ts", elements.changesTo(guards));
      elements.written(guards);
    });
    costing("names", () => told.change(namedHosts(tables, app, new Set())));
  };

  for (let i = 0; i < WARM_UP; i++) change(i);
  costs.clear();
  for (let i = 0; i < CHANGES; i++) change(i);
  return Object.fromEntries([...costs].map(([part, all]) => [part, median(all)]));
}

for (const [hosts, perHost] of [
  [10, 100],
  [10, 500],
  [10, 1000],
  [50, 100],
  [50, 200],
] as const) {
  const parts = costOf(hosts, perHost);
  const total = Object.values(parts).reduce((sum, ms) => sum + ms, 0);
  const texts = Object.entries(parts).map(([part, ms]) => `${part} ${round(ms * 1000)}`);
  console.log(
    `${hosts * perHost} containers on ${hosts} hosts: ${round(total * 1000)} µs (${texts.join(", ")})`,
  );
}
