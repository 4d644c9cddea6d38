import type { AgentStore, Change } from "./port.ts";

/** What could be read of a disk that takes no writes; it is opened again with each write, until it does. */
export class WaitingStore implements AgentStore {
  #store: AgentStore;
  #open: (() => AgentStore) | undefined;

  /** @param read what is answered until then. */
  constructor(read: AgentStore, open: () => AgentStore) {
    this.#store = read;
    this.#open = open;
  }

  list(prefix: string): readonly { key: string; value: Uint8Array }[] {
    return this.#store.list(prefix);
  }

  get(key: string): Uint8Array | undefined {
    return this.#store.get(key);
  }

  /** @throws STORE as the opening */
  write(changes: readonly Change[]): void {
    if (this.#open !== undefined) this.#store = this.#open();
    this.#open = undefined;
    this.#store.write(changes);
  }

  close(): void {
    this.#store.close();
  }
}
