import { expect, test } from "vitest";
import { plainPaths } from "../../../agent/core/data-plane/desired-network.ts";
import { changeOwn } from "../../../agent/core/tables/own-documents.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import {
  type Heard,
  isAlone,
  isComplete,
  wantedNetwork,
} from "../../../agent/core/data-plane/prune-gate.ts";
import { sha256 } from "../../../shared/node/system.ts";
import {
  app,
  clusterState,
  endpoint,
  hashSigner,
  hostDocument,
  nodeId,
} from "../../support/cluster.ts";

/** Host 1 with a container; `others`: whose words it holds; `known`: the state has the network. */
function tablesOf(here: boolean, others: readonly number[], known = true): Tables {
  const tables = new Tables();
  tables.mergeState(clusterState(3, known ? {} : { networks: [] }));
  const own = { node: nodeId(1), hasher: sha256, signer: hashSigner(nodeId(1)) };
  if (here) tables.mergeNetwork(changeOwn(own, app.id, undefined, [endpoint(1, 5)], []).document);
  for (const k of others) tables.mergeHost(hostDocument(k, { hosting: [app.id] }));
  return tables;
}

const plain = (tables: Tables) => () => plainPaths(tables, nodeId(1));

const nothing: Heard = { stateIsFresh: false, hostsInSync: false, inSync: false };

test("deleting: the last host of a cluster has nobody to ask, when that is the newest word", () => {
  const tables = tablesOf(true, []);
  const nodes = tables.state!.nodes.filter(({ id }) => id === nodeId(1));
  tables.mergeState({ ...tables.state!, revision: tables.state!.revision + 1, nodes });
  const wanted = (heard: Heard) => wantedNetwork(tables, nodeId(1), app.id, plain(tables), heard);
  expect(wanted({ ...nothing, stateIsFresh: true })).toMatchObject({
    kind: "present",
    prune: true,
  });
  expect(wanted(nothing)).toMatchObject({ kind: "present", prune: false });
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
  const wanted = wantedNetwork(tables, nodeId(1), app.id, plain(tables), heard);
  expect(wanted).toMatchObject(
    here ? { kind: "present", prune: may } : { kind: may ? "absent" : "keep" },
  );
});

test.each([
  ["with containers here", true, "keep"],
  ["with none", false, "absent"],
] as const)("a network whose class cannot be used, %s", (_what, here, kind) => {
  const heard = { stateIsFresh: true, hostsInSync: true, inSync: true };
  const tables = tablesOf(here, [2], true);
  expect(wantedNetwork(tables, nodeId(1), app.id, () => undefined, heard)).toEqual({ kind });
});

test("alone on a network is who asked who is on it, and then it is in sync as well", () => {
  const asked: Heard = { ...nothing, hostsInSync: true };
  const standing = (tables: Tables, heard: Heard) => [
    isAlone(tables, nodeId(1), app.id, heard),
    isComplete(tables, nodeId(1), app.id, heard),
  ];
  expect(standing(tablesOf(true, []), asked)).toEqual([true, true]);
  expect(standing(tablesOf(true, []), nothing)).toEqual([false, false]);
  expect(standing(tablesOf(true, [2]), asked)).toEqual([false, false]);
  expect(standing(tablesOf(true, [2]), { ...asked, inSync: true })).toEqual([false, true]);
});
