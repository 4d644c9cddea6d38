import { expect, test } from "vitest";
import { timesFull } from "../../../shared/node/neighbour-table.ts";

/** Of Linux 6.1, with two processors. */
const STAT = `entries  allocs   destroys hash_grows lookups  hits     res_failed rcv_probes_mcast rcv_probes_ucast periodic_gc_runs forced_gc_runs unresolved_discards table_fulls
00000828 00003ebe 00004144 00000006   0000d161 00004184 00000079   00000000         00000000         00000000         00000000       00000000            0000018c
00000828 00003fad 00003d0b 00000002   0000d0f9 00003bdb 0000005f   00000000         00000000         00000357         00000000       00000000            00000117
`;

test("how often it was full is the sum of all processors', where the kernel says it", () => {
  expect(timesFull(STAT)).toBe(0x18c + 0x117);
  expect(timesFull(STAT.replaceAll(/ \S+$/gm, ""))).toBeUndefined();
  expect(timesFull("")).toBeUndefined();
});
