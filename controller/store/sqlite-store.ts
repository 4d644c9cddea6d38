import { randomBytes } from "node:crypto";
import { chmodSync, closeSync, openSync, rmSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { asFailure, OverlayError } from "../../shared/errors.ts";
import { decodeRecord } from "../encoded-record.ts";
import { unreadable, wholeOf } from "../record-rows.ts";
import type { ControllerStore, RowChanges, StoreHead, StoredRecord } from "./port.ts";

/**
 * `record` is the head, where 0.1.0 has the whole: what it finds there is no record to it, and it says so. `object` has the rows,
 * in the order in which their keys came.
 */
const TABLES = `
  CREATE TABLE IF NOT EXISTS record (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, bytes BLOB NOT NULL);
  CREATE TABLE IF NOT EXISTS object (key TEXT PRIMARY KEY, bytes BLOB NOT NULL);`;
const FORMAT = 2;
/** Beside the database, as it was before it was migrated. */
const BEFORE = ".of-0.1.0";

/** One SQLite file, mode 0600; synchronous=FULL: what was answered survives a power cut. */
export class SqliteStore implements ControllerStore {
  readonly #path: string;
  readonly #db: DatabaseSync;
  readonly #head: StatementSync;
  readonly #rows: StatementSync;
  readonly #insert: StatementSync;
  readonly #update: StatementSync;
  readonly #put: StatementSync;
  readonly #drop: StatementSync;

  /** @throws STORE */
  constructor(path: string) {
    this.#path = path;
    try {
      // Made with its mode before SQLite opens it: there is no moment when others can read it.
      closeSync(openSync(path, "a", 0o600));
      chmodSync(path, 0o600);
      this.#db = new DatabaseSync(path);
      this.#db.exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=2000");
      this.#db.exec(TABLES);
      this.#head = this.#db.prepare("SELECT version, bytes FROM record WHERE one = 1");
      this.#rows = this.#db.prepare("SELECT key, bytes FROM object ORDER BY rowid");
      this.#insert = this.#db.prepare(
        "INSERT INTO record (one, version, bytes) VALUES (1, 1, ?) ON CONFLICT DO NOTHING",
      );
      this.#update = this.#db.prepare(
        "UPDATE record SET version = version + 1, bytes = ? WHERE one = 1 AND version = ?",
      );
      this.#put = this.#db.prepare(
        "INSERT INTO object (key, bytes) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET bytes = excluded.bytes",
      );
      this.#drop = this.#db.prepare("DELETE FROM object WHERE key = ?");
    } catch (error) {
      throw failed(`the controller's database ${path} cannot be opened`, error);
    }
  }

  async head(): Promise<StoreHead | undefined> {
    const held = this.#held();
    return held && { version: held.version, mark: held.mark ?? "" };
  }

  async read(): Promise<StoredRecord | undefined> {
    return this.#transaction("DEFERRED", () => {
      const held = this.#held();
      if (held === undefined) return undefined;
      const { version, mark, whole } = held;
      const rows = whole === undefined ? this.#all() : wholeOf(decodeRecord(whole)).put;
      return { version, mark: mark ?? "", rows: new Map(rows) };
    });
  }

  async write(version: number, { put, drop }: RowChanges): Promise<boolean> {
    this.migrate();
    return this.#transaction("IMMEDIATE", () => {
      const head = headBytes();
      const { changes } = version === 0 ? this.#insert.run(head) : this.#update.run(head, version);
      if (changes !== 1) return false;
      for (const [key, bytes] of put) this.#put.run(key, bytes);
      for (const key of drop) this.#drop.run(key);
      return true;
    });
  }

  /**
   * A database of 0.1.0, which is one row, becomes rows; as it was it stays beside it. At the controller's start, and before a
   * command writes. @throws STORE: nothing was changed
   */
  migrate(): void {
    if (this.#held()?.whole === undefined) return;
    this.#copyTo(`${this.#path}${BEFORE}`);
    this.#transaction("IMMEDIATE", () => {
      const held = this.#held();
      // Another process may have done it meanwhile.
      if (held?.whole === undefined) return;
      for (const [key, bytes] of wholeOf(decodeRecord(held.whole)).put) this.#put.run(key, bytes);
      // Of the same version: whoever has read it may go on from there.
      this.#db.prepare("UPDATE record SET bytes = ? WHERE one = 1").run(headBytes());
    });
  }

  close(): void {
    this.#db.close();
  }

  /** `whole`: it is of 0.1.0, and that is all of it. @throws STORE: of a later version */
  #held(): { version: number; mark?: string; whole?: Uint8Array } | undefined {
    const row = this.#head.get();
    if (row === undefined) return undefined;
    const version = row["version"] as number;
    const bytes = row["bytes"] as Uint8Array;
    let head: { format?: unknown; mark?: unknown };
    try {
      head = JSON.parse(new TextDecoder().decode(bytes)) as typeof head;
    } catch (cause) {
      throw unreadable(cause);
    }
    if (head.format === FORMAT && typeof head.mark === "string")
      return { version, mark: head.mark };
    if (head.format !== 1) throw unreadable(new Error(`format ${String(head.format)}`));
    return { version, whole: bytes };
  }

  #all(): [string, Uint8Array][] {
    return this.#rows.all().map(({ key, bytes }) => [key as string, bytes as Uint8Array]);
  }

  /** Anew: one that is there is of a migration that did not come to its end. */
  #copyTo(path: string): void {
    try {
      rmSync(path, { force: true });
      closeSync(openSync(path, "a", 0o600));
      this.#db.prepare("VACUUM INTO ?").run(path);
    } catch (error) {
      throw failed(
        `the controller's database cannot be copied to ${path} before it is migrated`,
        error,
      );
    }
  }

  #transaction<T>(kind: "DEFERRED" | "IMMEDIATE", run: () => T): T {
    try {
      this.#db.exec(`BEGIN ${kind}`);
      const result = run();
      this.#db.exec("COMMIT");
      return result;
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      if (error instanceof OverlayError) throw error;
      const what = kind === "DEFERRED" ? "cannot be read" : "takes no writes";
      throw failed(`the controller's database ${what}`, error);
    }
  }
}

function headBytes(): Uint8Array {
  const head = { format: FORMAT, mark: randomBytes(8).toString("hex") };
  return new TextEncoder().encode(JSON.stringify(head));
}

function failed(what: string, cause: unknown): OverlayError {
  return new OverlayError(
    {
      code: "STORE",
      message: `${what}: ${asFailure(cause).message}`,
      next: "check space and permissions of the data directory; nothing was changed",
    },
    { cause },
  );
}
