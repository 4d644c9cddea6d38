import { expect, test } from "vitest";
import { plainPaths } from "../../../agent/core/desired.ts";
import { changeOwn } from "../../../agent/core/own-documents.ts";
import { Tables } from "../../../agent/core/tables.ts";
import { type Heard, wantedNetwork } from "../../../agent/core/wanted.ts";
import { sha256 } from "../../../shared/node/system.ts";
import type { HostDocument } from "../../../shared/documents.ts";
import { app, clusterState, endpoint, hashSigner, nodeId, vtepOf } from "../../support/cluster.ts";

function word(k: number): HostDocument {
  return {
    node: nodeId(k),
    version: { incarnation: 1, seq: 1 },
    bootId: "b",
    vtep: { advertised: vtepOf(k), local: vtepOf(k) },
    underlayMtuBytes: 1500,
    capabilities: [],
    hosting: [app.id],
    signature: new Uint8Array(64),
  };
}

/** Host 1 with a container; `others`: whose words it holds; `known`: the state has the network. */
function tablesOf(here: boolean, others: readonly number[], known = true): Tables {
  const tables = new Tables();
  tables.mergeState(clusterState(3, known ? {} : { networks: [] }));
  const own = { node: nodeId(1), hasher: sha256, signer: hashSigner(nodeId(1)) };
  if (here) tables.mergeNetwork(changeOwn(own, app.id, undefined, [endpoint(1, 5)], []).document);
  for (const k of others) tables.mergeHost(word(k));
  return tables;
}

const plain = (tables: Tables) => () => plainPaths(tables, nodeId(1));

const nothing: Heard = { stateIsFresh: false, hostsInSync: false, inSync: false };

test("deleting: the last host of a cluster has nobody to ask, when that is the newest word", () => {
  const tables = tablesOf(true, []);
  const nodes = tables.state!.nodes.filter(({ id }) => id === nodeId(1));
  tables.mergeState({ ...tables.state!, revision: tables.state!.revision + 1, nodes });
  const may = (heard: Heard) =>
    wantedNetwork(tables, nodeId(1), app.id, plain(tables), heard).inSync;
  expect(may({ ...nothing, stateIsFresh: true })).toBe(true);
  expect(may(nothing)).toBe(false);
});

test.each([
  ["a container here, nothing heard", true, [2], true, nothing, false],
  ["a container here, nobody else known, nobody asked yet", true, [], true, nothing, false],
  [
    "a container here, nobody else, and a peer says so too",
    true,
    [],
    true,
    { ...nothing, hostsInSync: true },
    true,
  ],
  [
    "another host is on it, and was not asked",
    true,
    [2],
    true,
    { ...nothing, hostsInSync: true },
    false,
  ],
  [
    "it was asked, but who else is on it is not known",
    true,
    [2],
    true,
    { ...nothing, inSync: true },
    false,
  ],
  ["all was asked", true, [2], true, { ...nothing, hostsInSync: true, inSync: true }, true],
  ["nothing runs here any more", false, [2], true, nothing, true],
  ["no such network, by the state of an old disk", false, [], false, nothing, false],
  [
    "no such network, by the newest word",
    false,
    [],
    false,
    { ...nothing, stateIsFresh: true },
    true,
  ],
] as const)("deleting: %s", (_what, here, others, known, heard, may) => {
  const tables = tablesOf(here, others, known);
  const { desired, inSync } = wantedNetwork(tables, nodeId(1), app.id, plain(tables), heard);
  expect([desired !== undefined, inSync]).toEqual([here, may]);
});

test.each([
  ["with containers here", true, false],
  ["with none", false, true],
] as const)("a network whose class does not stand, %s", (_what, here, mayGo) => {
  const heard = { stateIsFresh: true, hostsInSync: true, inSync: true };
  const tables = tablesOf(here, [2], true);
  expect(wantedNetwork(tables, nodeId(1), app.id, () => undefined, heard)).toEqual({
    desired: undefined,
    inSync: mayGo,
  });
});
