import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { type ClientTable, NO_SERVICES } from "../core/balancing/client-table.ts";
import { isNewlyLeft, leftKeys } from "../core/balancing/left-behind.ts";
import { tableContent } from "../core/balancing/same-table.ts";
import {
  changeScript,
  NO_TABLE_SCRIPT,
  TABLE_NAME,
  TABLE_TO_LIST,
  wholeScript,
} from "../core/balancing/table-script.ts";
import { OverlayError } from "../../shared/errors.ts";
import { NetfilterSocket } from "../kernel/netlink/netfilter-socket.ts";
import { decodeGeneration, getGeneration, getTable } from "../kernel/netlink/nftables-state.ts";
import { inNetns, namespaceAt } from "../kernel/netns.ts";
import { Nftables } from "../kernel/nft/nftables.ts";
import { deleteLeftBehind } from "./left-entries.ts";

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
    if (written === undefined) return this.#begin(wanted, forms);
    const script = changeScript(written, wanted);
    if (script === undefined) return "same";
    inNetns(this.path, () => {
      try {
        this.#transact(script, wanted, "change virtual addresses");
      } catch {
        // Somebody took the table away, or changed it: written whole.
        this.#writeWhole(wanted);
      }
    });
    return "changed";
  }

  /** @param thorough look even if nobody changed any rules. @returns true: it was not as written, and is put back. @throws NETLINK */
  mend(forms: ListedForms, thorough: boolean): boolean {
    const written = this.#written;
    if (written === undefined) return false;
    return inNetns(this.path, () => {
      if (!thorough && this.#generation !== undefined && generation() === this.#generation)
        return false;
      if (this.#adopt(written, forms)) return false;
      this.#writeWhole(written);
      return true;
    });
  }

  /** @returns how many entries of conntrack went. @throws NETLINK */
  deleteLeftBehind(): number {
    const left = this.#written?.left;
    if (left === undefined) return 0;
    return inNetns(this.path, () => deleteLeftBehind(leftKeys(left)));
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
    inNetns(this.path, () => {
      if (!isTable()) return;
      withNftables((nftables) => nftables.run(NO_TABLE_SCRIPT, "remove virtual addresses"));
    });
  }

  #begin(wanted: ClientTable, forms: ListedForms): Put {
    return inNetns(this.path, () => {
      if (!isTable()) {
        if (wanted.services.size === 0) return "nothing";
      } else if (this.#adopt(wanted, forms)) return "adopted";
      this.#writeWhole(wanted);
      return "written";
    });
  }

  /** @returns false: it is not there, or another. */
  #adopt(wanted: ClientTable, forms: ListedForms): boolean {
    // Before the look: what is changed after it is of another generation.
    const seen = generation();
    const listed = withNftables((nftables) => nftables.list(TABLE_TO_LIST, "json"));
    if (listed === undefined || contentOf(listed) !== forms.contentOf(wanted)) return false;
    if (!isLiberal()) return false;
    this.#written = wanted;
    this.#generation = seen;
    return true;
  }

  #writeWhole(wanted: ClientTable): void {
    this.#written = undefined;
    this.#transact(wholeScript(wanted, isTable()), wanted, "write virtual addresses");
    if (existsSync(LIBERAL)) writeFileSync(LIBERAL, "1");
  }

  #transact(script: string, wanted: ClientTable, op: string): void {
    const before = generation();
    withNftables((nftables) => nftables.run(script, op));
    this.#written = wanted;
    const after = generation();
    this.#generation = before !== undefined && after === before + 1 ? after : undefined;
  }
}

export function contentOf(listed: string): string {
  return tableContent((JSON.parse(listed) as { nftables: unknown[] }).nftables);
}

/** Whether a client has a table of ours, of an agent before this one. Cheap enough for any thread. */
export function hasTable(path: string): boolean {
  if (namespaceAt(path) === undefined) return false;
  try {
    return inNetns(path, isTable);
  } catch {
    return false;
  }
}

function isTable(): boolean {
  return withSocket((socket) => {
    try {
      socket.ask(getTable(TABLE_NAME));
      return true;
    } catch (error) {
      if (error instanceof OverlayError && error.errno === "ENOENT") return false;
      throw error;
    }
  });
}

function generation(): number | undefined {
  return withSocket((socket) => {
    const [answer] = socket.ask(getGeneration);
    return answer && decodeGeneration(answer);
  });
}

/** A kernel that has no such setting has it as it is. */
function isLiberal(): boolean {
  return !existsSync(LIBERAL) || readFileSync(LIBERAL, "utf8").trim() === "1";
}

function withSocket<T>(work: (socket: NetfilterSocket) => T): T {
  const socket = new NetfilterSocket();
  try {
    return work(socket);
  } finally {
    socket.close();
  }
}

function withNftables<T>(work: (nftables: Nftables) => T): T {
  const nftables = new Nftables();
  try {
    return work(nftables);
  } finally {
    closeLater(nftables);
  }
}

/** By then the kernel has freed what was deleted, and the end of the context waits for nothing: with many clients it would. */
const CLOSE_AFTER_MS = 100;

function closeLater(nftables: Nftables): void {
  setTimeout(() => nftables.close(), CLOSE_AFTER_MS);
}
