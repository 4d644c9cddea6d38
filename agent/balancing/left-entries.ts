import { isLeftBehind, type LeftKeys } from "../core/balancing/left-behind.ts";
import { OverlayError } from "../../shared/errors.ts";
import { decodeEntry, deleteEntry, dumpTranslated } from "../kernel/netlink/conntrack.ts";
import type { NetfilterSocket } from "../kernel/netlink/netfilter-socket.ts";

/**
 * Deletes what conntrack of the socket's namespace should not have any more, one by one: each is looked at first, so a kernel
 * without the filters deletes no other.
 *
 * @returns how many there were. @throws NETLINK
 */
export function deleteLeftBehind(left: LeftKeys, socket: NetfilterSocket): number {
  if (left.draining.size + left.unreachable.size + left.gone.size === 0) return 0;
  const entries = socket
    .dump(dumpTranslated(left.gone.size > 0 ? "all" : "unanswered"))
    .flatMap((message) => decodeEntry(message) ?? [])
    .filter((entry) => isLeftBehind(entry, left));
  for (const entry of entries)
    try {
      socket.ask(deleteEntry(entry));
    } catch (error) {
      if (!(error instanceof OverlayError) || error.errno !== "ENOENT") throw error;
    }
  return entries.length;
}
