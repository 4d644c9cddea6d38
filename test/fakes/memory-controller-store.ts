import type { ControllerStore, StoredRecord } from "../../controller/store/port.ts";

/** Gone with the process. */
export class MemoryStore implements ControllerStore {
  #held: StoredRecord | undefined;

  read(): Promise<StoredRecord | undefined> {
    return Promise.resolve(this.#held);
  }

  write(version: number, bytes: Uint8Array): Promise<boolean> {
    if ((this.#held?.version ?? 0) !== version) return Promise.resolve(false);
    this.#held = { version: version + 1, bytes: Uint8Array.from(bytes) };
    return Promise.resolve(true);
  }

  close(): void {}
}
