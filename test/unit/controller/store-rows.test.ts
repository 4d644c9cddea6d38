import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { admitNode, revokeNode } from "../../../controller/core/admission.ts";
import { allotBlock, returnBlock } from "../../../controller/core/blocks.ts";
import { createNetwork, rotateKeys } from "../../../controller/core/networks.ts";
import { type ControllerRecord, newCluster } from "../../../controller/core/record.ts";
import { issueToken, useToken } from "../../../controller/core/tokens.ts";
import { decodeRecord, encodeRecord } from "../../../controller/encoded-record.ts";
import { recordOf, rowChanges, wholeOf } from "../../../controller/record-rows.ts";
import { SqliteStore } from "../../../controller/store/sqlite-store.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { Cidr, Ip } from "../../../shared/ip.ts";
import { nodeIdOf } from "../../../shared/node-id.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { recordings } from "../../fixtures/recordings.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const wallMs = 1_800_000_000_000;
const context = { wallMs, random: seededRandom(1) };
const nodes = Array.from({ length: 401 }, () => nodeIdOf(context.random.bytes(32)));
const nodeOf = (k: number): NodeId => nodes[k]!;

/** `hosts`, and half as many networks with a block each for two of them. */
function clusterOf(hosts: number): ControllerRecord {
  const address = Ip.parse("172.16.0.1");
  const peer = { controllerPeer: nodeOf(9), controllerNode: nodeOf(1), address };
  let record = newCluster(peer, context);
  for (let k = 1; k <= hosts; k++) {
    const own = Ip.parse(`172.16.${k >> 8}.${k & 255}`);
    const facts = { name: `h${k}`, address: own, vtep: own, underlayMtuBytes: 1500 };
    const known = { ...facts, ownSubnets: [], sealKey: "" };
    record = admitNode(record, nodeOf(k), known, undefined, wallMs).record;
  }
  for (let i = 0; i < hosts / 2; i++) {
    const subnet = Cidr.parse(`10.${64 + (i >> 4)}.${(i & 15) * 16}.0/20`);
    const request = {
      name: `n${i}`,
      subnets: [{ subnet, gateway: undefined, dockerIpam: false }],
      internal: false,
      attachable: true,
      labels: {},
      driverOptions: {},
    };
    record = createNetwork(record, nodeOf(1), request, context).record;
    const { id } = record.state.networks.at(-1)!;
    for (const k of [1, 1 + (i % hosts)]) record = allotBlock(record, nodeOf(k), id, 4).record;
  }
  return record;
}

const bytesOf = ({ put, drop }: ReturnType<typeof rowChanges>): number =>
  [
    ...put.map(([key, { length }]) => key.length + length),
    ...drop.map(({ length }) => length),
  ].reduce((sum, length) => sum + length, 0);

describe("rows of a decision", () => {
  const [few, many] = [clusterOf(10), clusterOf(400)];
  const decisions: readonly [string, number, (record: ControllerRecord) => ControllerRecord][] = [
    [
      "a block given",
      // The block, since when, and what there is once.
      3,
      (record) => allotBlock(record, nodeOf(3), record.state.networks[0]!.id, 4).record,
    ],
    [
      "a block returned",
      2,
      (record) => {
        const { network, node, block } = record.state.blocks[0]!;
        return returnBlock(record, node, network, block).record;
      },
    ],
    [
      "a token made",
      1,
      (record) => issueToken(record, { ttlMs: 1000, uses: 2 }, sha256, context).record,
    ],
    ["a key made anew", 3, (record) => rotateKeys(record, [record.state.networks[0]!.id], context)],
  ];

  test.each(decisions)("%s changes as many rows at 10 hosts as at 400", (_, rows, decide) => {
    const [small, large] = [few, many].map((record) => rowChanges(record, decide(record)));
    for (const changes of [small!, large!])
      expect(changes.put.length + changes.drop.length).toBe(rows);
    expect(bytesOf(large!)).toBeLessThan(bytesOf(small!) + 32);
    expect(bytesOf(large!)).toBeLessThan(2048);
    expect(bytesOf(large!) * 100).toBeLessThan(encodeRecord(many).length);
  });

  test("what was changed, row by row, is the record that was decided", () => {
    let record = few;
    const rows = new Map(wholeOf(record).put);
    const go = (next: ControllerRecord): void => {
      const { put, drop, grewBytes } = rowChanges(record, next);
      const before = record;
      for (const [key, bytes] of put) rows.set(key, bytes);
      for (const key of drop) rows.delete(key);
      record = next;
      expect(wholeOf(before).grewBytes + grewBytes).toBe(wholeOf(record).grewBytes);
      expect(recordOf(rows)).toEqual(decodeRecord(encodeRecord(record)));
    };
    for (const [, , decide] of decisions) go(decide(record));
    const token = record.tokens[0]!;
    go(useToken(record, token));
    go(useToken(record, record.tokens[0]!));
    go(revokeNode(record, nodeOf(3), wallMs + 1000).record);
    go({ ...record, restoredAtMs: wallMs });
    const { restoredAtMs: _, ...met } = record;
    go(met);
    expect(rowChanges(record, { ...record })).toEqual({ put: [], drop: [], grewBytes: 0 });
  });

  test("a row that this version does not know is a later version's", () => {
    const rows = new Map([
      ...wholeOf(few).put,
      ["later/1", new TextEncoder().encode("1")],
    ] as const);
    expect(() => recordOf(rows)).toThrow(/a record this version cannot read/);
  });
});

describe("a database of 0.1.0", () => {
  let directory: string;
  let path: string;
  let old: Uint8Array;
  const stores: SqliteStore[] = [];
  const open = (): SqliteStore => {
    const store = new SqliteStore(path);
    stores.push(store);
    return store;
  };
  /** As 0.1.0 reads it. */
  const oldRow = (file: string): { version: number; bytes: Uint8Array } => {
    const db = new DatabaseSync(file);
    try {
      return { ...db.prepare("SELECT version, bytes FROM record WHERE one = 1").get() } as never;
    } finally {
      db.close();
    }
  };

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "ovt-rows-"));
    path = join(directory, "controller.db");
    old = (await recordings()).controllerRecord["record"]!;
    const db = new DatabaseSync(path);
    db.exec(
      "CREATE TABLE record (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, bytes BLOB NOT NULL)",
    );
    db.prepare("INSERT INTO record VALUES (1, 7, ?)").run(old);
    db.close();
  });
  afterEach(() => {
    for (const store of stores.splice(0)) store.close();
    rmSync(directory, { recursive: true, force: true });
  });

  test("is read as it is, and becomes rows at the start, with a copy beside it", async () => {
    const store = open();
    const before = (await store.read())!;
    expect([before.version, recordOf(before.rows)]).toEqual([7, decodeRecord(old)]);
    expect(oldRow(path)).toEqual({ version: 7, bytes: old });
    store.migrate();
    const after = (await store.read())!;
    expect([after.version, recordOf(after.rows)]).toEqual([7, decodeRecord(old)]);
    expect(after.mark).not.toBe(before.mark);
    const copy = `${path}.of-0.1.0`;
    expect(oldRow(copy)).toEqual({ version: 7, bytes: old });
    expect(statSync(copy).mode & 0o777).toBe(0o600);
    expect(() => store.migrate()).not.toThrow();
    expect(await store.read()).toEqual(after);
  });

  test("0.1.0 says of a migrated one that it cannot read it", () => {
    open().migrate();
    expect(() => decodeRecord(oldRow(path).bytes)).toThrow(/a record this version cannot read/);
  });

  test("a write migrates it first, and a write on an older version changes nothing", async () => {
    const store = open();
    const { version, rows } = (await store.read())!;
    const record = recordOf(rows);
    const next = { ...record, nextVni: record.nextVni + 1 };
    expect(await store.write(version - 1, rowChanges(record, next))).toBe(false);
    expect(await store.write(version, rowChanges(record, next))).toBe(true);
    expect(recordOf((await store.read())!.rows)).toEqual(next);
  });

  test("a copy that cannot be made leaves it as it was", () => {
    const store = open();
    mkdirSync(`${path}.of-0.1.0`);
    expect(() => store.migrate()).toThrow(/cannot be copied to .*of-0\.1\.0 before it is migrated/);
    expect(oldRow(path)).toEqual({ version: 7, bytes: old });
  });
});
