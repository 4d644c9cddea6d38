import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { type ClientTable, NO_SERVICES } from "../core/balancing/client-table.ts";
import { isNewlyLeft, leftKeys } from "../core/balancing/left-behind.ts";
import { tableContent } from "../core/balancing/same-table.ts";
import { changeScript, NO_TABLE_SCRIPT, wholeScript } from "../core/balancing/table-script.ts";
import { namespaceAt } from "../kernel/netns.ts";
import { endLeftBehind } from "./left-entries.ts";
import { type Visit, visit } from "./visit.ts";

/** How tables look when they are listed: found where nobody else writes. */
export interface ListedForms {
  /** @throws NETLINK */
  contentOf(table: ClientTable): string;
}

/** A segment outside the window is then no reason to leave it untranslated (nf_conntrack-sysctl of the kernel's documents). */
const LIBERAL = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";

/** `nothing`: no services, and none before. */
export type Put = "nothing" | "same" | "written" | "changed" | "adopted";

/**
 * The table in one client's namespace. What was written is remembered, with the number of the namespace's rules, which is
 * another after each transaction of anybody: while it is the same, nobody changed them.
 *
 * Without services an empty one stays for as long as the client does: without any chain of NAT the kernel would
 * translate no packet any more, of connections that there are.
 */
export class NamespaceTable {
  readonly path: string;
  /** The inode: another one at the same path is another container. */
  readonly namespace: number;
  #written: ClientTable | undefined;
  /** Undefined: not known to be ours. */
  #generation: number | undefined;

  constructor(path: string, namespace: number) {
    this.path = path;
    this.namespace = namespace;
  }

  get isThere(): boolean {
    return namespaceAt(this.path) === this.namespace;
  }

  /** In one transaction. @throws NETLINK, UNSUPPORTED, FULL */
  put(wanted: ClientTable, forms: ListedForms): Put {
    const written = this.#written;
    const script = written && changeScript(written, wanted);
    if (written !== undefined && script === undefined) return "same";
    return visit(this.path, "later", (visit) => {
      if (script === undefined) return this.#begin(wanted, forms, visit);
      try {
        this.#transact(script, wanted, "change virtual addresses", visit);
      } catch {
        // Somebody took the table away, or changed it: written whole.
        this.#writeWhole(wanted, visit);
      }
      return "changed";
    });
  }

  /**
   * Where nobody changed any rules nothing is listed: a thousand services take seconds of that.
   *
   * @returns true: it was not as written, and is put back. @throws NETLINK
   */
  mend(forms: ListedForms): boolean {
    const written = this.#written;
    if (written === undefined) return false;
    const known = this.#generation;
    const untouched = visit(
      this.path,
      "now",
      (visit) => visit.generation() === known && isLiberal(),
    );
    if (known !== undefined && untouched) return false;
    return visit(this.path, "later", (visit) => {
      if (this.#adopt(written, forms, visit)) return false;
      this.#writeWhole(written, visit);
      return true;
    });
  }

  /** @returns how many connections ended, or move on. @throws NETLINK */
  endLeftBehind(): number {
    const left = this.#written?.left;
    if (left === undefined) return 0;
    return visit(this.path, "later", ({ socket }) => endLeftBehind(leftKeys(left), socket));
  }

  /** Whether connections may be on the way to who should get no more of them, that were not `before`. */
  hasNewlyLeft(before: ClientTable | undefined): boolean {
    return isNewlyLeft((before ?? NO_SERVICES).left, (this.#written ?? NO_SERVICES).left);
  }

  get written(): ClientTable | undefined {
    return this.#written;
  }

  /** @throws NETLINK */
  remove(): void {
    this.#written = undefined;
    removeTable(this.path);
  }

  #begin(wanted: ClientTable, forms: ListedForms, visit: Visit): Put {
    if (!visit.isTable()) {
      if (wanted.services.size === 0) return "nothing";
    } else if (this.#adopt(wanted, forms, visit)) return "adopted";
    this.#writeWhole(wanted, visit);
    return "written";
  }

  /** @returns false: it is not there, or another. */
  #adopt(wanted: ClientTable, forms: ListedForms, visit: Visit): boolean {
    // Before the look: what is changed after it is of another generation.
    const seen = visit.generation();
    const listed = visit.list();
    if (listed === undefined || contentOf(listed) !== forms.contentOf(wanted)) return false;
    if (!isLiberal()) return false;
    this.#written = wanted;
    this.#generation = seen;
    return true;
  }

  #writeWhole(wanted: ClientTable, visit: Visit): void {
    this.#written = undefined;
    const script = wholeScript(wanted, visit.isTable());
    this.#transact(script, wanted, "write virtual addresses", visit);
    if (existsSync(LIBERAL)) writeFileSync(LIBERAL, "1");
  }

  #transact(script: string, wanted: ClientTable, op: string, visit: Visit): void {
    const before = visit.generation();
    visit.run(script, op);
    this.#written = wanted;
    const after = visit.generation();
    this.#generation = before !== undefined && after === before + 1 ? after : undefined;
  }
}

export function contentOf(listed: string): string {
  return tableContent((JSON.parse(listed) as { nftables: unknown[] }).nftables);
}

/** Whether a client has a table of ours, of an agent before this one. Cheap enough for any thread. */
/** Nothing there is success. @throws NETLINK */
export function removeTable(path: string): void {
  visit(path, "later", (visit) => {
    if (visit.isTable()) visit.run(NO_TABLE_SCRIPT, "remove virtual addresses");
  });
}

export function hasTable(path: string): boolean {
  if (namespaceAt(path) === undefined) return false;
  try {
    return visit(path, "later", (visit) => visit.isTable());
  } catch {
    return false;
  }
}

/** A kernel that has no such setting has it as it is. */
function isLiberal(): boolean {
  return !existsSync(LIBERAL) || readFileSync(LIBERAL, "utf8").trim() === "1";
}
