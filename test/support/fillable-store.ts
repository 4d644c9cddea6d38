import { MemoryStore } from "../../agent/store/memory-store.ts";
import type { Change } from "../../agent/store/port.ts";
import { OverlayError } from "../../shared/errors.ts";

/** A disk that can be full, as SqliteStore says it then. */
export class FillableStore extends MemoryStore {
  full = false;

  override write(changes: readonly Change[]): void {
    if (this.full)
      throw new OverlayError({
        code: "STORE",
        message: "the agent's database takes no writes: database or disk is full",
        next: "free space on the disk of the data directory, or mount it writable",
      });
    super.write(changes);
  }
}
