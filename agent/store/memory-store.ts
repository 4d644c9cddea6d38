import type { AgentStore, Change } from "./port.ts";

/** The fast twin of SqliteStore for tests; same contract suite. */
export class MemoryStore implements AgentStore {
  readonly #entries = new Map<string, Uint8Array>();

  list(prefix: string): { key: string; value: Uint8Array }[] {
    return [...this.#entries]
      .filter(([key]) => key.startsWith(prefix))
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => ({ key, value: value.slice() }));
  }

  get(key: string): Uint8Array | undefined {
    return this.#entries.get(key)?.slice();
  }

  write(changes: readonly Change[]): void {
    for (const change of changes)
      if (change.kind === "put") this.#entries.set(change.key, change.value.slice());
      else this.#entries.delete(change.key);
  }

  close(): void {}
}
