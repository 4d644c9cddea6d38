import type { ClientTable } from "../core/balancing/client-table.ts";
import { TABLE_TO_LIST, wholeScript } from "../core/balancing/table-script.ts";
import { assert } from "../../shared/errors.ts";
import { inScratchNetns } from "../kernel/netns.ts";
import { Nftables } from "../kernel/nft/nftables.ts";
import { contentOf, type ListedForms } from "./namespace-table.ts";

interface Scratch {
  /** Whoever calls it: its socket stays in the namespace, and keeps it. */
  readonly nftables: Nftables;
  readonly known: Map<string, string>;
}

/**
 * Tables as this nft lists them, by writing each in a namespace of its own where nobody is: then what is found in a client's
 * is compared with what should be, not with what was found there. Kept until `end`: a host's clients have the same tables.
 */
export class ScratchForms implements ListedForms {
  #scratch: Scratch | undefined;

  contentOf(table: ClientTable): string {
    const { nftables, known } = (this.#scratch ??= {
      nftables: inScratchNetns(() => new Nftables()),
      known: new Map(),
    });
    const key = wholeScript(table, false);
    const found = known.get(key);
    if (found !== undefined) return found;
    nftables.run(wholeScript(table, known.size > 0), "list virtual addresses");
    const listed = nftables.list(TABLE_TO_LIST, "json");
    assert(listed !== undefined, "a table that was written is listed");
    const content = contentOf(listed);
    known.set(key, content);
    return content;
  }

  end(): void {
    this.#scratch?.nftables.close();
    this.#scratch = undefined;
  }
}
