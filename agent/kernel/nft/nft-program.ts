import { spawnSync } from "node:child_process";
import { OverlayError } from "../../../shared/errors.ts";
import { IMMEDIATE, ImmediateNetlink } from "../netlink/immediate.ts";
import { looksForUserdata } from "../netlink/nftables-state.ts";
import { Nftables, refused } from "./nftables.ts";

/** The thread waits for it: a program that a container's rules hold up is ended. */
const TIMEOUT_MS = 5000;

/** What is needed of nftables where containers may write rules. */
export type ContainersNftables = Pick<Nftables, "run" | "list" | "close">;

/**
 * nftables in a container's namespace, for use inside `inNetns`. libnftables reads all sets there before it writes anything,
 * and one that somebody made for it ends the process that reads it (1.0.6: of an expression's type that it does not know).
 * Where tables, chains or sets say more than types of their parts, comments too, the program reads them, in a process of its own.
 *
 * @param socket of nfnetlink, made in the namespace
 * @throws NETLINK, UNSUPPORTED, FULL
 */
export function nftablesOf(socket: ImmediateNetlink): ContainersNftables {
  const isPlain = looksForUserdata.every((look) => socket.dump(look.request).every(look.isPlain));
  return isPlain ? new Nftables() : new NftProgram();
}

/** As `nftablesOf`. */
export function containersNftables(): ContainersNftables {
  const socket = new ImmediateNetlink(IMMEDIATE.netfilter);
  try {
    return nftablesOf(socket);
  } finally {
    socket.close();
  }
}

/** As `Nftables`, by nft(8) in the namespace that this thread is in. */
export class NftProgram implements ContainersNftables {
  run(script: string, op: string): void {
    nft(["-f", "-"], script, op);
  }

  list(table: string, as: "text" | "json" = "text"): string | undefined {
    const json = as === "json" ? ["-j"] : [];
    try {
      return nft([...json, "list", "table", ...table.split(" ")], "", `list ${table}`);
    } catch (error) {
      if (/No such file or directory/.test((error as Error).message)) return undefined;
      throw error;
    }
  }

  close(): void {}
}

function nft(args: readonly string[], input: string, op: string): string {
  const { status, signal, stdout, stderr, error } = spawnSync("nft", args, {
    input,
    encoding: "utf8",
    timeout: TIMEOUT_MS,
  });
  if (signal !== null) throw unreadable(op, signal);
  if (status !== 0) throw refused(op, error?.message ?? stderr);
  return stdout;
}

function unreadable(op: string, signal: string): OverlayError {
  return new OverlayError({
    code: "NETLINK",
    op: `nft ${op}`,
    message: `nft was ended by ${signal} (${op}) in a container's namespace, by rules that the container wrote there`,
    next: "take NET_ADMIN from the container, or stop it; a later nftables may read these rules",
  });
}
