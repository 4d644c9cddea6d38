import type {
  ControllerStore,
  RowChanges,
  StoredRecord,
  StoreHead,
} from "../../controller/store/port.ts";

/** Gone with the process. */
export class MemoryStore implements ControllerStore {
  #held: StoredRecord | undefined;

  head(): Promise<StoreHead | undefined> {
    return this.read();
  }

  read(): Promise<StoredRecord | undefined> {
    return Promise.resolve(this.#held);
  }

  write(version: number, { put, drop }: RowChanges): Promise<boolean> {
    if ((this.#held?.version ?? 0) !== version) return Promise.resolve(false);
    const rows = new Map(this.#held?.rows);
    for (const [key, bytes] of put) rows.set(key, Uint8Array.from(bytes));
    for (const key of drop) rows.delete(key);
    this.#held = { version: version + 1, mark: String(version + 1), rows };
    return Promise.resolve(true);
  }

  close(): void {}
}
