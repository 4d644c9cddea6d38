import { chmodSync, closeSync, openSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { asFailure, OverlayError } from "../../shared/errors.ts";
import type { AgentStore, Change } from "./port.ts";

const FORMAT = 1;

/** Of sqlite3.h, the low byte of an extended result code. */
const SQLITE = { ERROR: 1, CORRUPT: 11, NOTADB: 26 } as const;

/** The file is there and cannot be believed: it is no database, or pages of it are not what they were. */
export class DamagedDatabase extends OverlayError {
  readonly why: string;

  constructor(path: string, why: string, cause: unknown) {
    super(
      {
        code: "STORE",
        op: "open",
        message: `the agent's database ${path} is damaged: ${why}`,
        next: "moved away, it is filled again from the peers and the kernel",
      },
      { cause },
    );
    this.why = why;
  }
}

/** A newer version wrote it, and we would not know what we break. */
export class NewerDatabase extends OverlayError {}

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

  /** @throws DamagedDatabase, NewerDatabase, or STORE when the file cannot be written. */
  constructor(path: string) {
    let db: DatabaseSync | undefined;
    try {
      // Made with its mode before SQLite opens it: there is no moment when others can read it.
      if (path !== ":memory:") {
        closeSync(openSync(path, "a", 0o600));
        chmodSync(path, 0o600);
      }
      db = new DatabaseSync(path);
      db.exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=2000");
      checkFormat(db, path);
      checkPages(db, path);
      db.exec("CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY, value BLOB NOT NULL)");
      db.exec(`PRAGMA user_version=${FORMAT}`);
      // A range, not LIKE: prefixes may hold its wildcards, and the primary key serves the range.
      this.#list = db.prepare(
        "SELECT key, value FROM entry WHERE key >= ? AND key < ? ORDER BY key",
      );
      this.#get = db.prepare("SELECT value FROM entry WHERE key = ?");
      this.#put = db.prepare("INSERT OR REPLACE INTO entry (key, value) VALUES (?, ?)");
      this.#delete = db.prepare("DELETE FROM entry WHERE key = ?");
      this.#db = db;
    } catch (error) {
      db?.close();
      throw error instanceof OverlayError ? error : openFailure(path, error);
    }
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
    try {
      this.#db.exec("BEGIN IMMEDIATE");
      for (const change of changes)
        if (change.kind === "put") this.#put.run(change.key, change.value);
        else this.#delete.run(change.key);
      this.#db.exec("COMMIT");
    } catch (cause) {
      // A full disk ends the transaction by itself.
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw new OverlayError(
        {
          code: "STORE",
          op: "write",
          message: `the agent's database takes no writes: ${asFailure(cause).message}`,
          next: "free space on the disk of the data directory, or mount it writable",
        },
        { cause },
      );
    }
  }

  close(): void {
    this.#db.close();
  }
}

function checkFormat(db: DatabaseSync, path: string): void {
  const format = db.prepare("PRAGMA user_version").get()?.["user_version"];
  if (format === 0 || format === FORMAT) return;
  throw new NewerDatabase({
    code: "STORE",
    op: "open",
    message: `${path} was written by another version (format ${String(format)}, known ${FORMAT})`,
    next: "run the version of overlay-ts that wrote it, or a newer one",
  });
}

/**
 * Every page, and that keys and entries belong together: quick_check would leave keys that lead nowhere.
 * Some milliseconds for a few megabytes. What is in the values has signatures and schemas of its own.
 */
function checkPages(db: DatabaseSync, path: string): void {
  const found = db.prepare("PRAGMA integrity_check(1)").get()?.["integrity_check"];
  if (found !== "ok") throw new DamagedDatabase(path, String(found), undefined);
}

function openFailure(path: string, cause: unknown): OverlayError {
  const { errcode } = cause as { errcode?: number };
  const kind = errcode === undefined ? undefined : errcode & 0xff;
  const why = asFailure(cause).message;
  if (kind === SQLITE.CORRUPT || kind === SQLITE.NOTADB || kind === SQLITE.ERROR)
    return new DamagedDatabase(path, why, cause);
  return new OverlayError(
    {
      code: "STORE",
      op: "open",
      message: `the agent's database ${path} cannot be opened: ${why}`,
      next: "free space on the disk of the data directory, or mount it writable",
    },
    { cause },
  );
}
