import type { z } from "zod";
import { decodeCbor, encodeCbor, equalBytes } from "../../shared/codec.ts";
import { asFailure, type Failure } from "../../shared/errors.ts";
import type { DiskStatus, Loss } from "./loss.ts";
import type { AgentStore, Change } from "./port.ts";

/** An entry holds a document or the signed state at most. */
const MAX_BYTES = 8 * 1024 * 1024;
const AGAIN_MS = 2000;
const LOSSES_TOLD = 100;

/**
 * Entries of a store by their schemas. What must be on disk before it is answered for is `put`, and
 * refused when the disk does not take it. What is true all the same (an end, what others said) is
 * `owe`d: in memory it counts at once, and it is written when the disk takes it.
 */
export class Disk {
  readonly #store: AgentStore;
  readonly #losses: Loss[];
  readonly #changed: () => void;
  readonly #owed = new Map<string, Change>();
  #failure: Failure | undefined;
  #again: NodeJS.Timeout | undefined;

  /** `losses`: of the opening. `changed`: whether the disk takes writes. */
  constructor(store: AgentStore, losses: readonly Loss[] = [], changed: () => void = () => {}) {
    this.#store = store;
    this.#losses = [...losses];
    this.#changed = changed;
  }

  get<T>(key: string, schema: z.ZodType<T>): T | undefined {
    const owed = this.#owed.get(key);
    const value =
      owed === undefined ? this.#store.get(key) : owed.kind === "put" ? owed.value : undefined;
    return value === undefined ? undefined : this.#read(key, value, schema);
  }

  /** Whether the entry is there, or owed, and says just this. */
  has<T>(key: string, value: T, schema: z.ZodType<T>): boolean {
    const owed = this.#owed.get(key);
    if (owed !== undefined) return owed.kind === "put" && equalBytes(owed.value, encodeCbor(value));
    const held = this.#store.get(key);
    try {
      // Through the schema: another version may have written the same otherwise.
      return (
        held !== undefined &&
        equalBytes(encodeCbor(schema.parse(decodeCbor(held, MAX_BYTES))), encodeCbor(value))
      );
    } catch {
      return false;
    }
  }

  /** At the start. What cannot be read is deleted and told: as if it had never been written. */
  list<T>(prefix: string, schema: z.ZodType<T>): T[] {
    return this.#store.list(prefix).flatMap(({ key, value }) => {
      const entry = this.#read(key, value, schema);
      return entry === undefined ? [] : [entry];
    });
  }

  keys(prefix: string): string[] {
    const held = this.#store.list(prefix).map(({ key }) => key);
    const owed = [...this.#owed.keys()].filter((key) => key.startsWith(prefix));
    return [...new Set([...held, ...owed])];
  }

  /** On disk when it returns. @throws STORE: nothing was changed. */
  put(key: string, value: unknown): void {
    try {
      this.#store.write([{ kind: "put", key, value: encodeCbor(value) }]);
    } catch (error) {
      this.#failed(error);
      throw error;
    }
    this.#owed.delete(key);
    this.#retry();
  }

  owePut(key: string, value: unknown): void {
    this.#owe({ kind: "put", key, value: encodeCbor(value) });
  }

  oweDelete(...keys: readonly string[]): void {
    for (const key of keys) this.#owed.set(key, { kind: "delete", key });
    this.#retry();
  }

  /** It is not what it should be. */
  lose(key: string, why: string): void {
    if (this.#losses.length < LOSSES_TOLD) this.#losses.push({ what: key, why });
    this.oweDelete(key);
  }

  status(): DiskStatus {
    return { owed: this.#owed.size, failure: this.#failure, losses: this.#losses };
  }

  close(): void {
    clearTimeout(this.#again);
    this.#store.close();
  }

  #owe(change: Change): void {
    this.#owed.set(change.key, change);
    this.#retry();
  }

  #retry(): void {
    if (this.#owed.size > 0)
      try {
        this.#store.write([...this.#owed.values()]);
        this.#owed.clear();
      } catch (error) {
        this.#failed(error);
        return;
      }
    clearTimeout(this.#again);
    this.#again = undefined;
    if (this.#failure === undefined) return;
    this.#failure = undefined;
    this.#changed();
  }

  #failed(error: unknown): void {
    const failed = asFailure(error);
    const news = failed.message !== this.#failure?.message;
    this.#failure = failed;
    this.#again ??= setTimeout(() => {
      this.#again = undefined;
      this.#retry();
    }, AGAIN_MS).unref();
    if (news) this.#changed();
  }

  #read<T>(key: string, value: Uint8Array, schema: z.ZodType<T>): T | undefined {
    try {
      return schema.parse(decodeCbor(value, MAX_BYTES));
    } catch (error) {
      this.lose(key, asFailure(error).message);
      return undefined;
    }
  }
}
