import type { SignedState } from "../../shared/cluster-state.ts";
import type { Membership } from "../membership/membership-files.ts";
import { SavedTables } from "../replication/saved-tables.ts";
import { Disk } from "../store/disk.ts";
import { SqliteStore } from "../store/sqlite-store.ts";
import { type Context, filesOf } from "./context.ts";

/** The signed states on this host's disk, read beside an agent that may run. */
export function signedStates(context: Context, membership: Membership): SignedState[] {
  const disk = new Disk(new SqliteStore(filesOf(context).database));
  try {
    const saved = new SavedTables(disk).state();
    return saved === undefined ? [membership.state] : [membership.state, saved];
  } finally {
    disk.close();
  }
}
