import { u16be, u32 } from "./codec.ts";
import type { ConnectionEnd } from "./conntrack.ts";
import type { Request } from "./socket.ts";

/** sock_diag(7): sockets of a namespace (linux/inet_diag.h, linux/sock_diag.h). */

const SOCK_DESTROY = 21;
const IPPROTO_TCP = 6;
const ANY_STATE = 0xffffffff;
/** INET_DIAG_NOCOOKIE, twice. */
const NO_COOKIE = Buffer.alloc(8, 0xff);

/**
 * Ends a TCP connection whose socket is in this namespace: the program is told ECONNABORTED, the other end is reset. ENOENT: no
 * such socket. EOPNOTSUPP: the kernel has no CONFIG_INET_DIAG_DESTROY.
 */
export function destroySocket(family: number, from: ConnectionEnd, to: ConnectionEnd): Request {
  const id = [
    u16be(from.port),
    u16be(to.port),
    wide(from.address),
    wide(to.address),
    u32(0),
    NO_COOKIE,
  ];
  return {
    op: "SOCK_DESTROY",
    type: SOCK_DESTROY,
    flags: 0,
    // struct inet_diag_req_v2
    parts: [Buffer.from([family, IPPROTO_TCP, 0, 0]), u32(ANY_STATE), ...id],
  };
}

/** `__be32 idiag_src[4]`: one of IPv4 is the first. */
function wide(address: Buffer): Buffer {
  return Buffer.concat([address], 16);
}
