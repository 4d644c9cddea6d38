import type { AgentStore, Change } from "../../agent/store/port.ts";
import { sharedBytes } from "./shared-bytes.ts";

/** The agent's disk. Whoever writes gives the bytes away, so that a copy costs no bytes. */
export class SimDisk implements AgentStore {
  readonly #entries: Map<string, Uint8Array>;

  constructor(entries: Iterable<[string, Uint8Array]> = []) {
    this.#entries = new Map(entries);
  }

  list(prefix: string): { key: string; value: Uint8Array }[] {
    return [...this.#entries]
      .filter(([key]) => key.startsWith(prefix))
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => ({ key, value }));
  }

  get(key: string): Uint8Array | undefined {
    return this.#entries.get(key);
  }

  write(changes: readonly Change[]): void {
    for (const change of changes)
      if (change.kind === "put") this.#entries.set(change.key, sharedBytes(change.value));
      else this.#entries.delete(change.key);
  }

  close(): void {}

  /** As one agent has it: nothing that it writes comes here any more once it has died. */
  of(agent: { diesNow(): boolean }): AgentStore {
    return {
      list: (prefix) => this.list(prefix),
      get: (key) => this.get(key),
      write: (changes) => {
        if (!agent.diesNow()) this.write(changes);
      },
      close: () => {},
    };
  }

  /** As it is now: a snapshot of the machine. */
  copy(): SimDisk {
    return new SimDisk(this.#entries);
  }
}
