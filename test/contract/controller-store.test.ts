import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MemoryStore } from "../fakes/memory-controller-store.ts";
import type { ControllerStore } from "../../controller/store/port.ts";
import { SqliteStore } from "../../controller/store/sqlite-store.ts";
import { controllerStoreContract } from "./controller-store-contract.ts";

describe("memory", () => controllerStoreContract(() => new MemoryStore()));

describe("SQLite", () => {
  let directory: string;
  const opened: ControllerStore[] = [];
  const open = (): ControllerStore => {
    const store = new SqliteStore(join(directory, "controller.db"));
    opened.push(store);
    return store;
  };
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "ovt-store-"));
  });
  afterEach(() => {
    for (const store of opened.splice(0)) store.close();
    rmSync(directory, { recursive: true, force: true });
  });

  controllerStoreContract(open);

  test("two processes' handles see each other's writes", async () => {
    const [a, b] = [open(), open()];
    const one = new Map([["a", Uint8Array.of(1)]]);
    expect(await a.write(0, { put: [...one], drop: [] })).toBe(true);
    expect(await b.write(0, { put: [["a", Uint8Array.of(2)]], drop: [] })).toBe(false);
    expect(await b.read()).toMatchObject({ version: 1, rows: one });
  });

  test("only root reads it: it holds network keys", () => {
    open();
    expect(statSync(join(directory, "controller.db")).mode & 0o777).toBe(0o600);
  });

  test("a directory that is not there is named", () => {
    expect(() => new SqliteStore(join(directory, "none", "controller.db"))).toThrow(
      /none\/controller.db cannot be opened/,
    );
  });
});
