import { closeSync } from "node:fs";
import type { ClientTable } from "../core/balancing/client-table.ts";
import { TABLE_TO_LIST, wholeScript } from "../core/balancing/table-script.ts";
import { assert } from "../../shared/errors.ts";
import { inNetns, openNewNetns, pathOf } from "../kernel/netns.ts";
import { Nftables } from "../kernel/nft/nftables.ts";
import { contentOf, type ListedForms } from "./namespace-table.ts";

interface Scratch {
  readonly descriptor: number;
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
    const scratch = (this.#scratch ??= make());
    const key = wholeScript(table, false);
    const known = scratch.known.get(key);
    if (known !== undefined) return known;
    // A context stays in its namespace, whoever calls it.
    scratch.nftables.run(wholeScript(table, scratch.known.size > 0), "list virtual addresses");
    const listed = scratch.nftables.list(TABLE_TO_LIST, "json");
    assert(listed !== undefined, "a table that was written is listed");
    const content = contentOf(listed);
    scratch.known.set(key, content);
    return content;
  }

  end(): void {
    this.#scratch?.nftables.close();
    if (this.#scratch !== undefined) closeSync(this.#scratch.descriptor);
    this.#scratch = undefined;
  }
}

function make(): Scratch {
  const descriptor = openNewNetns();
  try {
    const nftables = inNetns(pathOf(descriptor), () => new Nftables());
    return { descriptor, nftables, known: new Map() };
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}
