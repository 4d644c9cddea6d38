import { describe, expect, test } from "vitest";
import { desiredGuards } from "../../../agent/core/data-plane/desired-guards.ts";
import { desired, plainPaths } from "../../../agent/core/data-plane/desired-network.ts";
import {
  hostsOn,
  hostsPerhapsNeeding,
  isUsedHere,
  saysOn,
  takesPart,
} from "../../../agent/core/tables/hosts.ts";
import { changeOwn } from "../../../agent/core/tables/own-documents.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { NetworkId } from "../../../shared/ids.ts";
import { sha256 } from "../../../shared/node/system.ts";
import {
  app,
  clusterState,
  endpoint,
  hashSigner,
  hostDocument,
  nodeId,
  vtepOf,
} from "../../support/cluster.ts";

/** Hosts 2 to 4 say that they are on the network; host 3 may not, host 4 is of no cluster, host 5 was not heard. */
describe("on a network", () => {
  const state = clusterState(3, {
    networks: [{ ...app, hosts: [nodeId(1), nodeId(2)] }],
  });
  const tables = new Tables();
  tables.mergeState(state);
  for (const [k, hosting] of [
    [1, []],
    [2, [app.id]],
    [3, [app.id]],
    [4, [app.id]],
  ] as const)
    tables.mergeHost(hostDocument(k, { hosting: [...hosting] }));

  test("is who says so, or may be as well", () => {
    const says = [1, 2, 3, 4, 5].map((k) => saysOn(tables.hosts, nodeId(k), app.id));
    expect(says).toEqual([false, true, true, true, undefined]);
    expect(hostsOn(tables.hosts, app.id)).toEqual([2, 3, 4].map((k) => nodeId(k)));
    const part = [1, 2, 3, 4, 5].map((k) => takesPart(tables, nodeId(k), app.id));
    expect(part).toEqual([false, true, false, false, false]);
  });

  test("and frames come in from and go out to those alone that may be", () => {
    const flood = {
      ...tables.state!,
      revision: 9,
      networks: tables.state!.networks.map((record) => ({ ...record, multicast: true })),
    };
    tables.mergeState(flood);
    tables.mergeHost(hostDocument(1, { version: { incarnation: 1, seq: 2 }, hosting: [app.id] }));
    expect(desired(tables, nodeId(1), app.id, plainPaths(tables, nodeId(1)))?.flood).toEqual([
      vtepOf(2),
    ]);
    expect(desiredGuards(tables, nodeId(1), ["none"])?.hosting).toEqual([
      { vtep: vtepOf(2), vni: app.vni },
    ]);
  });

  test("a host uses it that says so or has containers there, and no other", () => {
    const own = { node: nodeId(6), hasher: sha256, signer: hashSigner(nodeId(6)) };
    expect(isUsedHere(tables, nodeId(6), app.id)).toBe(false);
    tables.mergeNetwork(changeOwn(own, app.id, undefined, [endpoint(6, 5)], []).document);
    expect(isUsedHere(tables, nodeId(6), app.id)).toBe(true);
    expect(isUsedHere(tables, nodeId(4), app.id)).toBe(true);
  });
});

describe("behind a cut a network may be needed", () => {
  const state = clusterState(3);
  const lost = new Set([nodeId(2), nodeId(9)]);

  test("where addresses of it are to be given without asking anybody, each host named once", () => {
    const [block] = state.blocks.filter(({ node }) => node === nodeId(2));
    const blocks = [...state.blocks, ...(block === undefined ? [] : [block])];
    expect(hostsPerhapsNeeding({ blocks }, lost, app.id)).toEqual([nodeId(2)]);
  });

  test("and not where all hosts are reached, on other networks, or without a state", () => {
    expect(hostsPerhapsNeeding(state, new Set(), app.id)).toEqual([]);
    expect(hostsPerhapsNeeding(state, lost, NetworkId.parse("f".repeat(32)))).toEqual([]);
    expect(hostsPerhapsNeeding(undefined, lost, app.id)).toEqual([]);
  });
});
