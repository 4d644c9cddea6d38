import { chmodSync, closeSync, openSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { OverlayError } from "../../shared/errors.ts";
import type { AgentStore, Change } from "./port.ts";

const FORMAT = 1;

/**
 * One table in one SQLite file, mode 0600. WAL with synchronous=NORMAL: a killed agent loses
 * nothing; a power cut may lose the last writes, which the incarnation rule repairs
 * (shared/README.md), and costs no fsync on the attach path.
 */
export class SqliteStore implements AgentStore {
  readonly #db: DatabaseSync;
  readonly #list: StatementSync;
  readonly #get: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;

  /** @throws STORE when the file cannot be opened, is no database, or of a newer format. */
  constructor(path: string) {
    try {
      // Made with its mode before SQLite opens it: there is no moment when others can read it.
      if (path !== ":memory:") {
        closeSync(openSync(path, "a", 0o600));
        chmodSync(path, 0o600);
      }
      this.#db = new DatabaseSync(path);
      this.#db.exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=2000");
      this.#db.exec("CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY, value BLOB NOT NULL)");
    } catch (error) {
      throw new OverlayError(
        {
          code: "STORE",
          op: "open",
          message: `the agent's database ${path} cannot be opened: ${(error as Error).message}`,
          next: "check the disk; moved away, it is filled again from the peers and the kernel",
        },
        { cause: error },
      );
    }
    const format = this.#db.prepare("PRAGMA user_version").get()?.["user_version"];
    if (format !== 0 && format !== FORMAT)
      throw new OverlayError({
        code: "STORE",
        op: "open",
        message: `${path} was written by another version (format ${String(format)}, known ${FORMAT})`,
        next: "run the version of overlay-ts that wrote it, or a newer one",
      });
    this.#db.exec(`PRAGMA user_version=${FORMAT}`);
    // A range, not LIKE: prefixes may hold its wildcards, and the primary key serves the range.
    this.#list = this.#db.prepare(
      "SELECT key, value FROM entry WHERE key >= ? AND key < ? ORDER BY key",
    );
    this.#get = this.#db.prepare("SELECT value FROM entry WHERE key = ?");
    this.#put = this.#db.prepare("INSERT OR REPLACE INTO entry (key, value) VALUES (?, ?)");
    this.#delete = this.#db.prepare("DELETE FROM entry WHERE key = ?");
  }

  list(prefix: string): { key: string; value: Uint8Array }[] {
    return this.#list
      .all(prefix, `${prefix}\u{10ffff}`)
      .map((row) => ({ key: row["key"] as string, value: row["value"] as Uint8Array }));
  }

  get(key: string): Uint8Array | undefined {
    return this.#get.get(key)?.["value"] as Uint8Array | undefined;
  }

  write(changes: readonly Change[]): void {
    if (changes.length === 0) return;
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      for (const change of changes)
        if (change.kind === "put") this.#put.run(change.key, change.value);
        else this.#delete.run(change.key);
      this.#db.exec("COMMIT");
    } catch (error) {
      this.#db.exec("ROLLBACK");
      throw new OverlayError(
        {
          code: "STORE",
          op: "write",
          message: `the agent's database takes no writes: ${(error as Error).message}`,
          next: "free space on the disk of the data directory",
        },
        { cause: error },
      );
    }
  }

  close(): void {
    this.#db.close();
  }
}
