import { attr, decodeAttributes, type NetlinkMessage, text } from "./codec.ts";
import type { Request } from "./socket.ts";

/** What nftables is asked without its library (linux/netfilter/nf_tables.h): microseconds, in any thread. */

/** NFNL_SUBSYS_NFTABLES of linux/netfilter/nfnetlink.h, the upper byte of a type; NFT_MSG_*. */
const SUBSYSTEM = 10 << 8;
const MSG = {
  getTable: SUBSYSTEM | 1,
  getGeneration: SUBSYSTEM | 16,
} as const;
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

/**
 * What nft leaves in the kernel for itself, and takes apart when it lists: NFT_MSG_GET* and NFTA_*_USERDATA. Of it only what is
 * a number of four bytes in sets (KEYBYTEORDER, DATABYTEORDER, MERGE_ELEMENTS, DATA_INTERVAL of libnftnl/udata.h), or
 * says which nft made a table, is `plain`.
 */
const WITH_USERDATA = [
  { type: 1, attribute: 6, plain: [1, 2] },
  { type: 4, attribute: 12, plain: [] },
  { type: 10, attribute: 13, plain: [0, 1, 2, 6], bytes: 4 },
].map((one): { type: number; attribute: number; plain: number[]; bytes?: number } => one);

/** Dumps, of all families: of tables, chains and sets, each with whether a message is of one that has nothing else of nft's. */
export const looksForUserdata = WITH_USERDATA.map(({ type, attribute, plain, bytes }) => ({
  request: {
    op: `NFT_MSG of type ${type}`,
    type: SUBSYSTEM | type,
    flags: 0,
    parts: [Buffer.alloc(4)],
  } satisfies Request,
  isPlain: ({ payload }: Pick<NetlinkMessage, "payload">): boolean => {
    const userdata = decodeAttributes(payload.subarray(4)).get(attribute) ?? Buffer.alloc(0);
    let at = 0;
    while (at + 2 <= userdata.length) {
      const length = userdata[at + 1]!;
      if (!plain.includes(userdata[at]!) || length !== (bytes ?? length)) return false;
      at += 2 + length;
    }
    return at === userdata.length;
  },
}));
