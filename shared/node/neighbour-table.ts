import { readFileSync } from "node:fs";
import type { Failure } from "../errors.ts";
import type { Family } from "../ip.ts";

const FILES: Readonly<Record<Family, string>> = {
  4: "/proc/net/stat/arp_cache",
  6: "/proc/net/stat/ndisc_cache",
};

/**
 * How often since its start this machine's kernel found its table of neighbours full: packets to who is not in it went
 * nowhere, without a word. Undefined: it does not say, as in a network namespace of its own.
 */
export function timesTableWasFull(family: Family): number | undefined {
  try {
    return timesFull(readFileSync(FILES[family], "utf8"));
  } catch {
    return undefined;
  }
}

/** A line of names, and one of numbers for each processor, in hexadecimal. Source: Linux, neigh_stat_seq_show. */
export function timesFull(text: string): number | undefined {
  const [head, ...lines] = text.trim().split("\n");
  const column = head?.split(/\s+/).indexOf("table_fulls") ?? -1;
  if (column < 0) return undefined;
  return lines.reduce(
    (sum, line) => sum + parseInt(line.trim().split(/\s+/)[column] ?? "0", 16),
    0,
  );
}

/** Between two looks it was full. */
export function tableFull(family: Family): Failure {
  const setting = `net.ipv${family}.neigh.default.gc_thresh`;
  return {
    code: "FULL",
    message: `this machine's table of neighbours was full: packets to hosts that are not in it are lost`,
    next: `give it room for all hosts and containers: \`sysctl -w ${setting}3=16384 ${setting}2=8192\`, and the same in /etc/sysctl.d`,
  };
}
