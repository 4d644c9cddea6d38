import { expect, test } from "vitest";
import { HostDigests } from "../../../agent/core/tables/host-digests.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import type { HostDocument } from "../../../shared/documents.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { clusterState, node, nodeId } from "../../support/cluster.ts";

function word(k: number, seq: number): HostDocument {
  const { address } = node(k);
  return {
    node: nodeId(k),
    version: { incarnation: 1, seq },
    bootId: "boot",
    vtep: { advertised: address, local: address },
    underlayMtuBytes: 1500,
    capabilities: [],
    hosting: [],
    signature: new Uint8Array(64),
  };
}

test("what is kept is what would be made anew, after each change", () => {
  const tables = new Tables();
  const kept = new HostDigests(tables, sha256);
  const fresh = () => new HostDigests(tables, sha256).current();
  const steps = [
    () => tables.mergeState(clusterState(2)),
    () => tables.mergeHost(word(2, 1)),
    () => tables.mergeHost(word(1, 1)),
    // No member yet; then it is, and its word counts.
    () => tables.mergeHost(word(3, 1)),
    () => tables.mergeState(clusterState(3, { revision: 2 })),
    () => tables.mergeHost(word(1, 2)),
    () => tables.mergeState(clusterState(1, { revision: 3, revoked: [nodeId(2)] })),
  ];
  const hashes = steps.map((step) => {
    expect(step()).toBe(true);
    expect(kept.current()).toMatchObject(fresh());
    expect(kept.current()).toBe(kept.current());
    return kept.current().hash.join();
  });
  // Only the stranger's word changes nothing.
  expect(new Set(hashes).size).toBe(steps.length - 1);
  expect(kept.current().entries.map((entry) => entry.node)).toEqual([nodeId(1)]);
});

test("a state of the same members makes nothing anew", () => {
  const tables = new Tables();
  const digests = new HostDigests(tables, sha256);
  tables.mergeState(clusterState(2));
  tables.mergeHost(word(2, 1));
  const before = digests.current();
  tables.mergeState(clusterState(2, { revision: 2, networks: [] }));
  expect(digests.current()).toBe(before);
});

test("news is what is newer, or another of the same version", () => {
  const tables = new Tables();
  const digests = new HostDigests(tables, sha256);
  expect(digests.isNews(digests.entry(word(1, 1)))).toBe(true);
  tables.mergeHost(word(1, 2));
  expect(digests.isNews(digests.entry(word(1, 1)))).toBe(false);
  expect(digests.isNews(digests.entry(word(1, 2)))).toBe(false);
  expect(digests.isNews(digests.entry({ ...word(1, 2), bootId: "other" }))).toBe(true);
  expect(digests.isNews(digests.entry(word(1, 3)))).toBe(true);
});
