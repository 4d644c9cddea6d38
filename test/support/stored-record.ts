import type { ControllerRecord } from "../../controller/core/record.ts";
import { recordOf, rowChanges } from "../../controller/record-rows.ts";
import type { ControllerStore } from "../../controller/store/port.ts";

/** The store's record, whatever it was before. */
export async function storeRecord(store: ControllerStore, record: ControllerRecord): Promise<void> {
  const held = await store.read();
  await store.write(held?.version ?? 0, rowChanges(held && recordOf(held.rows), record));
}

export async function storedRecord(store: ControllerStore): Promise<ControllerRecord> {
  return recordOf((await store.read())!.rows);
}
