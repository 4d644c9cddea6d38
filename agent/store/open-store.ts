import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { asFailure } from "../../shared/errors.ts";
import type { Loss } from "./loss.ts";
import { MemoryStore } from "./memory-store.ts";
import type { AgentStore } from "./port.ts";
import { DamagedDatabase, NewerDatabase, SqliteStore } from "./sqlite-store.ts";
import { WaitingStore } from "./waiting-store.ts";

/** Damaged databases that are kept for somebody to look at; the newest. */
const KEPT = 3;
const FILES = ["", "-wal", "-shm"];

export interface OpenOptions {
  /** On another file system than the database, as /run is: for a copy while that one takes no writes. */
  readonly scratch: string;
  readonly wallMs: number;
}

export interface Opened {
  readonly store: AgentStore;
  readonly losses: readonly Loss[];
}

/**
 * The agent's database, whatever became of it. One that is damaged is moved aside, and begun anew: peers,
 * kernel and Docker know what was in it. One that takes no writes is read, and written when it takes them.
 * @throws NewerDatabase, which is left alone.
 */
export function openStore(path: string, { scratch, wallMs }: OpenOptions): Opened {
  try {
    return openWritable(path, wallMs);
  } catch (error) {
    if (error instanceof NewerDatabase) throw error;
    const { entries, losses } = readCopy(path, scratch);
    return { store: new WaitingStore(entries, () => openWritable(path, wallMs).store), losses };
  }
}

/** @throws STORE, NewerDatabase */
function openWritable(path: string, wallMs: number): Opened {
  try {
    return { store: new SqliteStore(path), losses: [] };
  } catch (error) {
    if (!(error instanceof DamagedDatabase)) throw error;
    const keptAs = moveAside(path, wallMs);
    return { store: new SqliteStore(path), losses: [{ what: path, why: error.why, keptAs }] };
  }
}

/** @returns the name under which it is kept. */
function moveAside(path: string, wallMs: number): string {
  const when = new Date(wallMs).toISOString().replaceAll(/[-:]|\.\d+/g, "");
  const aside = `${path}.damaged-${when}`;
  for (const suffix of FILES)
    if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
  forgetOldest(path);
  return aside;
}

function forgetOldest(path: string): void {
  const directory = dirname(path);
  const prefix = `${basename(path)}.damaged-`;
  const kept = readdirSync(directory)
    .filter((name) => name.startsWith(prefix) && name.endsWith("Z"))
    .toSorted();
  for (const name of kept.slice(0, -KEPT))
    for (const suffix of FILES) rmSync(join(directory, name + suffix), { force: true });
}

/** SQLite needs to write to read: so a copy is read. */
function readCopy(path: string, scratch: string): { entries: MemoryStore; losses: Loss[] } {
  const copy = join(scratch, "database-copy");
  const entries = new MemoryStore();
  try {
    rmSync(copy, { recursive: true, force: true });
    mkdirSync(copy, { recursive: true, mode: 0o700 });
    for (const suffix of ["", "-wal"])
      if (existsSync(path + suffix)) copyFileSync(path + suffix, join(copy, `db${suffix}`));
    const read = new SqliteStore(join(copy, "db"));
    entries.write(read.list("").map(({ key, value }) => ({ kind: "put", key, value })));
    read.close();
    return { entries, losses: [] };
  } catch (error) {
    return { entries, losses: [{ what: path, why: asFailure(error).message }] };
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}
