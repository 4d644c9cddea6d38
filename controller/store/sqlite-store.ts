import { chmodSync, closeSync, openSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { OverlayError } from "../../shared/errors.ts";
import type { ControllerStore, StoredRecord } from "./port.ts";

/** One row in one SQLite file, mode 0600; synchronous=FULL: what was answered survives a power cut. */
export class SqliteStore implements ControllerStore {
  readonly #db: DatabaseSync;
  readonly #read: StatementSync;
  readonly #insert: StatementSync;
  readonly #update: StatementSync;

  /** @throws STORE */
  constructor(path: string) {
    try {
      // Made with its mode before SQLite opens it: there is no moment when others can read it.
      closeSync(openSync(path, "a", 0o600));
      chmodSync(path, 0o600);
      this.#db = new DatabaseSync(path);
      this.#db.exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=2000");
      this.#db.exec(
        "CREATE TABLE IF NOT EXISTS record (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, bytes BLOB NOT NULL)",
      );
      this.#read = this.#db.prepare("SELECT version, bytes FROM record WHERE one = 1");
      this.#insert = this.#db.prepare(
        "INSERT INTO record (one, version, bytes) VALUES (1, 1, ?) ON CONFLICT DO NOTHING",
      );
      this.#update = this.#db.prepare(
        "UPDATE record SET version = version + 1, bytes = ? WHERE one = 1 AND version = ?",
      );
    } catch (error) {
      throw failed(`the controller's database ${path} cannot be opened`, error);
    }
  }

  read(): Promise<StoredRecord | undefined> {
    const row = this.#read.get();
    return Promise.resolve(
      row === undefined
        ? undefined
        : { version: row["version"] as number, bytes: row["bytes"] as Uint8Array },
    );
  }

  async write(version: number, bytes: Uint8Array): Promise<boolean> {
    try {
      const { changes } =
        version === 0 ? this.#insert.run(bytes) : this.#update.run(bytes, version);
      return changes === 1;
    } catch (error) {
      throw failed("the controller's database takes no writes", error);
    }
  }

  close(): void {
    this.#db.close();
  }
}

function failed(what: string, cause: unknown): OverlayError {
  return new OverlayError(
    {
      code: "STORE",
      message: `${what}: ${(cause as Error).message}`,
      next: "check space and permissions of the data directory; nothing was changed",
    },
    { cause },
  );
}
