import { fateOf, type LeftKeys } from "../core/balancing/left-behind.ts";
import { OverlayError } from "../../shared/errors.ts";
import {
  decodeEntry,
  deleteEntry,
  dumpTranslated,
  type TranslatedEntry,
} from "../kernel/netlink/conntrack.ts";
import { IMMEDIATE, ImmediateNetlink } from "../kernel/netlink/immediate.ts";
import { destroySocket } from "../kernel/netlink/sock-diag.ts";
import type { Request } from "../kernel/netlink/socket.ts";

/**
 * Ends what conntrack of this namespace should not have any more, one by one: each is looked at first, so a kernel without
 * the filters deletes no other.
 *
 * @param netfilter made in this namespace, which the thread is in.
 * @returns how many there were. @throws NETLINK
 */
export function endLeftBehind(left: LeftKeys, netfilter: ImmediateNetlink): number {
  if (left.draining.size + left.unreachable.size + left.gone.size === 0) return 0;
  const entries = netfilter
    .dump(dumpTranslated(left.gone.size > 0 ? "all" : "unanswered"))
    .flatMap((message) => decodeEntry(message) ?? []);
  const forgotten = entries.filter((entry) => fateOf(entry, left) === "forget");
  const reset = entries.filter((entry) => fateOf(entry, left) === "reset");
  for (const entry of forgotten) askOf(netfilter, deleteEntry(entry), ["ENOENT"]);
  if (reset.length > 0) resetAll(reset);
  return forgotten.length + reset.length;
}

/**
 * A client that only waits sends nothing that the table could refuse. Where the kernel cannot close its socket, and for
 * containers within the client, its next packet is refused.
 */
function resetAll(entries: readonly TranslatedEntry[]): void {
  const sockets = new ImmediateNetlink(IMMEDIATE.sockDiag);
  try {
    for (const { family, from, to } of entries)
      askOf(sockets, destroySocket(family, from, to), ["ENOENT", "EOPNOTSUPP"]);
  } finally {
    sockets.close();
  }
}

/** What ended meanwhile is success. */
function askOf(socket: ImmediateNetlink, request: Request, success: readonly string[]): void {
  try {
    socket.ask(request);
  } catch (error) {
    if (!(error instanceof OverlayError) || !success.includes(error.errno ?? "")) throw error;
  }
}
