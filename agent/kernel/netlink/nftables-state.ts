import { attr, decodeAttributes, type NetlinkMessage, text } from "./codec.ts";
import type { Request } from "./socket.ts";

/** What nftables is asked without its library (linux/netfilter/nf_tables.h): microseconds, in any thread. */

/** NFNL_SUBSYS_NFTABLES of linux/netfilter/nfnetlink.h, the upper byte of a type; NFT_MSG_*. */
const SUBSYSTEM = 10 << 8;
const MSG = { getTable: SUBSYSTEM | 1, getGeneration: SUBSYSTEM | 16 } as const;
const NFTA_TABLE_NAME = 1;
const NFTA_GEN_ID = 1;
/** NFPROTO_INET of linux/netfilter.h */
const INET = 1;

/** ENOENT: it is not there. */
export function getTable(name: string): Request {
  return {
    op: `NFT_MSG_GETTABLE ${name}`,
    type: MSG.getTable,
    flags: 0,
    parts: [Buffer.from([INET, 0, 0, 0]), attr(NFTA_TABLE_NAME, text(name))],
  };
}

/** Of the namespace's rules, all tables: another after each transaction, whoever made it. */
export const getGeneration: Request = {
  op: "NFT_MSG_GETGEN",
  type: MSG.getGeneration,
  flags: 0,
  parts: [Buffer.alloc(4)],
};

export function decodeGeneration({ payload }: NetlinkMessage): number | undefined {
  return decodeAttributes(payload.subarray(4)).get(NFTA_GEN_ID)?.readUInt32BE(0);
}
