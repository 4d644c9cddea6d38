import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MemoryStore } from "../../agent/store/memory-store.ts";
import { SqliteStore } from "../../agent/store/sqlite-store.ts";
import { agentStoreContract } from "./agent-store-contract.ts";

let directory: string;
let files = 0;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "ovt-store-"));
});
afterAll(() => rmSync(directory, { recursive: true }));
const path = (): string => join(directory, `${++files}.db`);

agentStoreContract("MemoryStore", () => new MemoryStore());
agentStoreContract("SqliteStore", () => new SqliteStore(path()));

describe("the SQLite file", () => {
  test("keeps what was written without being closed, and is the owner's alone", () => {
    const file = path();
    new SqliteStore(file).write([{ kind: "put", key: "k", value: Uint8Array.of(7) }]);
    const again = new SqliteStore(file);
    expect(again.get("k")).toEqual(Uint8Array.of(7));
    expect(statSync(file).mode & 0o777).toBe(0o600);
    again.close();
  });

  test("a write of several changes that fails leaves nothing of it", () => {
    const store = new SqliteStore(path());
    const broken = {
      kind: "put",
      key: "second",
      value: undefined as unknown as Uint8Array,
    } as const;
    expect(() =>
      store.write([{ kind: "put", key: "first", value: Uint8Array.of(1) }, broken]),
    ).toThrow(/takes no writes/);
    expect(store.get("first")).toBeUndefined();
    store.close();
  });

  test("a file that is no database, or of a newer format, is refused by name", () => {
    const garbage = path();
    writeFileSync(garbage, "x".repeat(4096));
    expect(() => new SqliteStore(garbage)).toThrow(garbage);
    const newer = path();
    const db = new DatabaseSync(newer);
    db.exec("PRAGMA user_version=99");
    db.close();
    expect(() => new SqliteStore(newer)).toThrow(/format 99/);
  });
});
