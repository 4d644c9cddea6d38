import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { asFailure } from "../../shared/errors.ts";
import type { Loss } from "./loss.ts";
import { MemoryStore } from "./memory-store.ts";
import type { AgentStore } from "./port.ts";
import { DamagedDatabase, SqliteStore } from "./sqlite-store.ts";
import { WaitingStore } from "./waiting-store.ts";

/** Damaged databases that are kept for somebody to look at; the newest. */
const KEPT = 3;
const FILES = ["", "-wal", "-shm"];

export interface OpenOptions {
  /** On another file system than the database, as /run is: for a copy while that one takes no writes. */
  readonly scratch: string;
  readonly wallMs: number;
}

/**
 * The agent's database, whatever became of it. One that is damaged is moved aside, and begun anew: peers,
 * kernel and Docker know what was in it. One that takes no writes is read, and written when it takes them.
 * @throws STORE for one of a newer version, which is left alone.
 */
export function openStore(
  path: string,
  options: OpenOptions,
): { readonly store: AgentStore; readonly losses: readonly Loss[] } {
  try {
    return { store: new SqliteStore(path), losses: [] };
  } catch (error) {
    if (error instanceof DamagedDatabase) return begunAnew(path, error, options);
    if (error instanceof Error && "cause" in error && error.cause !== undefined)
      return readOnly(path, options);
    throw error;
  }
}

function begunAnew(path: string, damage: DamagedDatabase, { wallMs }: OpenOptions) {
  const when = new Date(wallMs).toISOString().replaceAll(/[-:]|\.\d+/g, "");
  const aside = `${path}.damaged-${when}`;
  const why = damage.message;
  try {
    for (const suffix of FILES)
      if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
    forgetOldest(path);
    const losses = [{ what: path, why, keptAs: aside }];
    return { store: new SqliteStore(path), losses };
  } catch {
    // Neither to be read nor to be moved: the tables live in memory until the disk is mended.
    const store = new WaitingStore(new MemoryStore(), () => openStore(path, options()).store);
    return { store, losses: [{ what: path, why }] };
  }

  function options(): OpenOptions {
    return { scratch: dirname(path), wallMs };
  }
}

function forgetOldest(path: string): void {
  const directory = dirname(path);
  const prefix = `${basename(path)}.damaged-`;
  const kept = readdirSync(directory)
    .filter((name) => name.startsWith(prefix) && /Z$/.test(name))
    .toSorted();
  for (const name of kept.slice(0, -KEPT))
    for (const suffix of FILES) rmSync(join(directory, name + suffix), { force: true });
}

/** SQLite needs to write to read: so a copy is read. */
function readOnly(path: string, { scratch }: OpenOptions) {
  const copy = join(scratch, "database-copy");
  const entries = new MemoryStore();
  let losses: Loss[] = [];
  try {
    rmSync(copy, { recursive: true, force: true });
    mkdirSync(copy, { recursive: true, mode: 0o700 });
    for (const suffix of ["", "-wal"])
      if (existsSync(path + suffix)) copyFileSync(path + suffix, join(copy, `db${suffix}`));
    const read = new SqliteStore(join(copy, "db"));
    entries.write(read.list("").map(({ key, value }) => ({ kind: "put", key, value })));
    read.close();
  } catch (error) {
    losses = [{ what: path, why: asFailure(error).message }];
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
  return { store: new WaitingStore(entries, () => new SqliteStore(path)), losses };
}
