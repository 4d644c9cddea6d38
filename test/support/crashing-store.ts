import type {
  ControllerStore,
  RowChanges,
  StoredRecord,
  StoreHead,
} from "../../controller/store/port.ts";

/** The process ended here: whoever catches it has caught nothing. */
export class Crash extends Error {}

/**
 * Ends at its `at`-th step: before or after one of the store's operations. From then on it does nothing
 * any more, as a process that has ended.
 */
export class CrashingStore implements ControllerStore {
  readonly #inner: ControllerStore;
  readonly #at: number;
  steps = 0;

  constructor(inner: ControllerStore, at: number) {
    this.#inner = inner;
    this.#at = at;
  }

  get crashed(): boolean {
    return this.steps > this.#at;
  }

  head(): Promise<StoreHead | undefined> {
    return this.#around(() => this.#inner.head());
  }

  read(): Promise<StoredRecord | undefined> {
    return this.#around(() => this.#inner.read());
  }

  write(version: number, changes: RowChanges): Promise<boolean> {
    return this.#around(() => this.#inner.write(version, changes));
  }

  close(): void {
    this.#inner.close();
  }

  async #around<T>(operation: () => Promise<T>): Promise<T> {
    this.#step();
    const result = await operation();
    this.#step();
    return result;
  }

  #step(): void {
    if (this.steps++ >= this.#at) throw new Crash(`step ${this.#at}`);
  }
}
