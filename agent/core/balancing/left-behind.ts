import type { Ip } from "../../../shared/ip.ts";
import type { LeftAddresses } from "./client-table.ts";

/**
 * What conntrack keeps of connections that no new one would be: the translation of a connection is decided once, so what
 * goes on to a member that should get nothing more does so until its entry goes.
 */

/** An entry of conntrack in a client's namespace, as far as it is asked. */
export interface Entry {
  /** Of IP: 6 is TCP. */
  readonly protocol: number;
  /** Whom the client meant, and who answers it: as `addressKey`. */
  readonly meant: string;
  readonly answers: string;
  /** Something came back. */
  readonly replied: boolean;
}

/** Addresses as conntrack has them, by what is to go of their entries. */
export interface LeftKeys {
  readonly draining: ReadonlySet<string>;
  readonly unreachable: ReadonlySet<string>;
  readonly gone: ReadonlySet<string>;
}

const TCP = 6;

/** `forget`: its entry is deleted. `reset`: the client's socket is closed, which may wait for what never comes. */
export type Fate = "forget" | "reset" | undefined;

/**
 * Established TCP stays: of one that drains, or whose host is away, it goes on; of one that is gone it is reset. What is
 * answered of other protocols stays too (QUIC is a connection), until the member is gone. What is not answered moves on:
 * a SYN to a host that is away with the client's next try, datagrams with the next.
 */
export function fateOf(
  { protocol, meant, answers, replied }: Entry,
  { draining, unreachable, gone }: LeftKeys,
): Fate {
  if (meant === answers) return undefined;
  if (gone.has(answers)) return replied && protocol === TCP ? "reset" : "forget";
  if (replied) return undefined;
  const moves = unreachable.has(answers) || (draining.has(answers) && protocol !== TCP);
  return moves ? "forget" : undefined;
}

export function leftKeys({ draining, unreachable, gone }: LeftAddresses): LeftKeys {
  const keys = (addresses: ReadonlySet<Ip>): Set<string> => new Set([...addresses].map(addressKey));
  return { draining: keys(draining), unreachable: keys(unreachable), gone: keys(gone) };
}

/** Some address is of a kind that it was not of before: there may be entries of it. */
export function isNewlyLeft(before: LeftAddresses, now: LeftAddresses): boolean {
  return (["draining", "unreachable", "gone"] as const).some((kind) =>
    [...now[kind]].some((address) => !before[kind].has(address)),
  );
}

/** An address as the hex digits of its bytes. Of the canonical spelling: without a parser, which a thread would load. */
export function addressKey(address: Ip): string {
  if (!address.includes(":"))
    return address
      .split(".")
      .map((part) => Number(part).toString(16).padStart(2, "0"))
      .join("");
  const [head = "", tail] = address.split("::");
  const groups = (text: string): string[] =>
    text === "" ? [] : text.split(":").map((group) => group.padStart(4, "0"));
  const [before, after] = [groups(head), groups(tail ?? "")];
  const zeros = "0000".repeat(8 - before.length - after.length);
  return before.join("") + (tail === undefined ? "" : zeros) + after.join("");
}
