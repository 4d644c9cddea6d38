import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { openStore } from "../../../agent/store/open-store.ts";
import type { AgentStore } from "../../../agent/store/port.ts";
import { SqliteStore } from "../../../agent/store/sqlite-store.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const root = mkdtempSync(join(tmpdir(), "ovt-disk-"));
const PAGE = 4096;
let directory: string;
let path: string;
const opened: AgentStore[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(root, "d-"));
  path = join(directory, "agent.db");
});
afterEach(() => {
  for (const store of opened.splice(0)) store.close();
});
afterAll(() => rmSync(root, { recursive: true }));

const WALL_MS = Date.UTC(2026, 10, 21, 20, 0, 0);

function open(wallMs = WALL_MS): ReturnType<typeof openStore> {
  const found = openStore(path, { scratch: join(directory, "scratch"), wallMs });
  opened.push(found.store);
  return found;
}

const key = (i: number): string => `k/${String(i).padStart(4, "0")}`;

/** Some pages of entries; with `keepLog` the newest are in the write-ahead log, as after a kill. */
function filled({ keepLog = false } = {}): void {
  const store = new SqliteStore(path);
  for (let i = 0; i < 100; i++)
    store.write([{ kind: "put", key: key(i), value: new Uint8Array(300).fill(i) }]);
  if (!keepLog) {
    store.close();
    return;
  }
  const kept = ["", "-wal"].map((suffix) => [path + suffix, readFileSync(path + suffix)] as const);
  store.close();
  for (const [file, bytes] of kept) writeFileSync(file, bytes);
}

function flip(file: string, at: number, length = 1): void {
  const bytes = readFileSync(file);
  for (let i = at; i < at + length; i++) bytes[i] = (bytes[i] ?? 0) ^ 0xff;
  writeFileSync(file, bytes);
}

const aside = (): string[] =>
  readdirSync(directory).filter((name) => name.includes("damaged") && name.endsWith("Z"));

/** It works, whatever was lost. */
function expectUsable(store: AgentStore): void {
  store.write([{ kind: "put", key: "new", value: Uint8Array.of(1) }]);
  expect(store.get("new")).toEqual(Uint8Array.of(1));
}

test.each<[string, () => void]>([
  ["garbage", () => writeFileSync(path, "x".repeat(8 * PAGE))],
  ["a header of nobody", () => flip(path, 0, 16)],
  ["a page size that cannot be", () => flip(path, 16, 2)],
  ["a tree's page that is garbage", () => flip(path, 3 * PAGE, PAGE)],
  ["the schema's page garbage", () => flip(path, 100, PAGE - 100)],
  ["cut off in the middle", () => truncateSync(path, 3 * PAGE + 100)],
  ["tables of somebody else", () => foreign()],
])("%s: moved aside under its time, begun anew, and told", (_, damage) => {
  filled();
  damage();
  const { store, losses } = open();
  expect(aside()).toEqual(["agent.db.damaged-20261121T200000Z"]);
  expect(losses).toMatchObject([
    { what: path, why: expect.stringMatching(/^[^/]{3,}$/), keptAs: join(directory, aside()[0]!) },
  ]);
  expect(store.list("")).toEqual([]);
  expectUsable(store);
  store.close();
  opened.pop();
  // And not again with the next start.
  expect(open().losses).toEqual([]);
});

function foreign(): void {
  rmSync(path);
  const db = new DatabaseSync(path);
  db.exec("CREATE TABLE entry (something TEXT)");
  db.close();
}

test.each<[string, () => void]>([
  ["an empty file", () => truncateSync(path, 0)],
  ["no file", () => rmSync(path)],
])("%s is a database that nothing was written to", (_, damage) => {
  filled();
  damage();
  const { store, losses } = open();
  expect(losses).toEqual([]);
  expect(store.list("")).toEqual([]);
  expectUsable(store);
});

test("after a kill all that was written is there", () => {
  filled({ keepLog: true });
  const { store, losses } = open();
  expect(losses).toEqual([]);
  expect(store.list("k/")).toHaveLength(100);
});

test.each([
  ["torn in its last frame", (size: number) => truncateSync(`${path}-wal`, size - 1000)],
  ["with a flipped byte in the middle", (size: number) => flip(`${path}-wal`, size >> 1)],
  ["without a head", () => flip(`${path}-wal`, 0, 32)],
  ["empty", () => truncateSync(`${path}-wal`, 0)],
])("a write-ahead log %s: what was written before the fault is there, in order", (_, damage) => {
  filled({ keepLog: true });
  damage(readFileSync(`${path}-wal`).length);
  const { store, losses } = open();
  expect(losses).toEqual([]);
  const held = store.list("k/").map((entry) => entry.key);
  expect(held).toEqual(held.map((_entry, i) => key(i)));
  expect(held.length).toBeLessThan(100);
  expectUsable(store);
});

test("any byte of it may be another: it is read as it was, or put aside; never half", () => {
  filled();
  const whole = readFileSync(path);
  const random = seededRandom(5);
  const seen = new Set<string>();
  for (let i = 0; i < 60; i++) {
    writeFileSync(path, whole);
    flip(path, random.below(whole.length), 1 + random.below(40));
    const { store, losses } = open();
    seen.add(losses.length === 0 ? "read" : "aside");
    const held = store.list("k/").length;
    expect(held).toBe(losses.length === 0 ? 100 : 0);
    expectUsable(store);
    store.close();
    opened.pop();
    for (const suffix of ["", "-wal", "-shm"]) rmSync(path + suffix, { force: true });
  }
  expect(seen).toEqual(new Set(["read", "aside"]));
});

test("three damaged ones are kept, the newest", () => {
  for (let minute = 0; minute < 5; minute++) {
    writeFileSync(path, "x".repeat(PAGE));
    open(WALL_MS + minute * 60_000).store.close();
    opened.pop();
  }
  expect(aside()).toEqual([
    "agent.db.damaged-20261121T200200Z",
    "agent.db.damaged-20261121T200300Z",
    "agent.db.damaged-20261121T200400Z",
  ]);
});

test("one of a newer version is left alone, and said", () => {
  filled();
  const db = new DatabaseSync(path);
  db.exec("PRAGMA user_version=2");
  db.close();
  const before = readFileSync(path);
  expect(() => open()).toThrow(/format 2, known 1/);
  expect(aside()).toEqual([]);
  expect(readFileSync(path).equals(before)).toBe(true);
});

test("one that has no version yet is ours, and gets it", () => {
  filled();
  const db = new DatabaseSync(path);
  db.exec("PRAGMA user_version=0");
  db.close();
  expect(open().store.list("k/")).toHaveLength(100);
});

test("a directory that is missing: in memory until it is there", () => {
  path = join(directory, "gone", "agent.db");
  const { store, losses } = open();
  expect(losses).toEqual([]);
  expect(store.list("")).toEqual([]);
  const put = { kind: "put", key: "a", value: Uint8Array.of(1) } as const;
  expect(() => store.write([put])).toThrow(/cannot be opened/);
});

test("one that another process writes to refuses in words, and takes writes again", () => {
  filled();
  const { store } = open();
  const other = new DatabaseSync(path);
  other.exec("BEGIN IMMEDIATE");
  const put = { kind: "put", key: "a", value: Uint8Array.of(1) } as const;
  expect(() => store.write([put])).toThrow(/takes no writes: database is locked/);
  other.exec("ROLLBACK");
  other.close();
  store.write([put]);
  expect(store.get("a")).toEqual(Uint8Array.of(1));
});

test("nothing of a copy is left behind", () => {
  filled();
  copyFileSync(path, join(directory, "same.db"));
  open();
  expect(existsSync(join(directory, "scratch"))).toBe(false);
});
