import { AddressPools } from "../../../agent/networks/address-pools.ts";
import { JoinedSandboxes } from "../../../agent/names/joined-sandboxes.ts";
import { SavedTables } from "../../../agent/replication/saved-tables.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import { app } from "../../support/cluster.ts";
import { recordings } from "../../fixtures/recordings.ts";
import { hold, type Target } from "../target.ts";

/**
 * A key of the agent's database, a line feed, and what lies there: the agent reads it, or starts without
 * it and says so. Other entries stay as they are.
 */
export async function diskRow(): Promise<Target> {
  const rows = (await recordings()).agentRow;
  return {
    decoder: "Disk: SavedTables, Bindings, JoinedSandboxes",
    recorded: Object.entries(rows).map(([key, value]) =>
      Buffer.concat([Buffer.from(`${key}\n`), value]),
    ),
    form: "cbor",
    treeAt: (input) => input.indexOf(0x0a) + 1,
    feed: (input) => {
      const end = input.indexOf(0x0a);
      const key = new TextDecoder().decode(input.subarray(0, Math.max(0, end)));
      const store = new MemoryStore();
      for (const [name, value] of Object.entries(rows))
        store.write([{ kind: "put", key: name, value }]);
      store.write([{ kind: "put", key, value: input.slice(end + 1) }]);
      const disk = new Disk(store);
      const saved = new SavedTables(disk);
      saved.state();
      saved.hosts();
      saved.documents();
      saved.key(app.id);
      const [pools, joined] = [new AddressPools(disk).all(), new JoinedSandboxes(disk).all()];
      hold(pools.length <= 2 && joined.length <= 2, "an entry is there more than once");
      const { losses } = disk.status();
      hold(
        losses.every(({ what }) => what === key),
        "another entry was lost",
      );
      hold(
        (store.get(key) === undefined) === losses.length > 0,
        "it is lost and there, or neither",
      );
      disk.close();
      return losses.length === 0 ? undefined : "lost";
    },
  };
}
