import { hash } from "node:crypto";
import type { z } from "zod";
import { decodeCbor } from "../../shared/codec.ts";
import { Disk } from "../../agent/store/disk.ts";
import type { AgentStore } from "../../agent/store/port.ts";

/** Shorter ones cost less than looking for them. */
const LEAST_BYTES = 96;
const MAX_BYTES = 8 * 1024 * 1024;

const copies = new Map<string, WeakRef<Uint8Array>>();
const gone = new FinalizationRegistry<string>((key) => {
  if (copies.get(key)?.deref() === undefined) copies.delete(key);
});

/** The one copy of these bytes: what one host says, a thousand simulated hosts keep. Nobody changes what was written. */
export function sharedBytes(bytes: Uint8Array): Uint8Array {
  if (bytes.length < LEAST_BYTES) return bytes;
  const key = hash("sha256", bytes, "base64url");
  const held = copies.get(key)?.deref();
  if (held !== undefined) return held;
  // Of its own size: an encoder's result is a part of a larger buffer.
  const copy = new Uint8Array(bytes);
  copies.set(key, new WeakRef(copy));
  gone.register(copy, key);
  return copy;
}

/** What one host's disk reads of an entry is what all others read of the same bytes. */
export class SharedDisk extends Disk {
  readonly #entries: AgentStore;

  constructor(store: AgentStore) {
    super(store);
    this.#entries = store;
  }

  override get<T>(key: string, schema: z.ZodType<T>): T | undefined {
    const bytes = this.#entries.get(key);
    return bytes === undefined ? undefined : read(bytes, schema);
  }

  override list<T>(prefix: string, schema: z.ZodType<T>): T[] {
    return this.#entries.list(prefix).map(({ value }) => read(value, schema));
  }
}

const readOf = new WeakMap<Uint8Array, unknown>();

function read<T>(bytes: Uint8Array, schema: z.ZodType<T>): T {
  let value = readOf.get(bytes) as T | undefined;
  if (value === undefined) readOf.set(bytes, (value = schema.parse(decodeCbor(bytes, MAX_BYTES))));
  return value;
}
