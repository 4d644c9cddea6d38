import { closeSync } from "node:fs";
import koffi from "koffi";
import { OverlayError } from "../../../shared/errors.ts";
import { refusedByKernel } from "../errno.ts";
import { decodeFrames, encodeFrame, type NetlinkMessage } from "./codec.ts";
import type { Request } from "./socket.ts";

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const send = libc.func("long send(int fd, const void *bytes, size_t length, int flags)");
const recv = libc.func("long recv(int fd, _Out_ void *bytes, size_t length, int flags)");

// include/linux/socket.h, include/linux/net.h
const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const MSG_DONTWAIT = 0x40;
// include/uapi/linux/netlink.h
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
/** What the kernel fills at a time of a list (netlink_recvmsg of net/netlink/af_netlink.c). */
const RECEIVE_BYTES = 32 << 10;

/** Families of netlink(7). Not those of `raw-socket.ts`, whose package is a thread's to load that has sockets for long. */
export const IMMEDIATE = { sockDiag: 4, netfilter: 12 } as const;

const received = Buffer.alloc(RECEIVE_BYTES);

/**
 * Netlink in one go, for a few questions in a namespace that is left again: the kernel answers while it is asked, so that
 * nothing is waited for. Made and used inside `inNetns`. For many questions, and for news, there is `Netlink`.
 */
export class ImmediateNetlink {
  readonly #fd: number;
  #seq = 0;

  /** @throws NETLINK */
  constructor(family: (typeof IMMEDIATE)[keyof typeof IMMEDIATE]) {
    this.#fd = socket(AF_NETLINK, SOCK_RAW_CLOEXEC, family) as number;
    if (this.#fd < 0) throw refused("socket", koffi.errno());
  }

  /** The kernel's answers, its acknowledgement not among them. @throws NETLINK with `errno` */
  ask(request: Request): NetlinkMessage[] {
    return this.#exchange(request, NLM_F_ACK);
  }

  /** @throws NETLINK */
  dump(request: Request): NetlinkMessage[] {
    return this.#exchange(request, NLM_F_DUMP);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #exchange({ op, type, flags, parts }: Request, more: number): NetlinkMessage[] {
    const seq = ++this.#seq;
    const frame = encodeFrame(type, NLM_F_REQUEST | more | flags, seq, ...parts);
    if ((send(this.#fd, frame, frame.length, 0) as number) < 0) throw refused(op, koffi.errno());
    const messages: NetlinkMessage[] = [];
    for (;;) {
      const length = recv(this.#fd, received, received.length, MSG_DONTWAIT) as number;
      if (length < 0) throw refused(op, koffi.errno());
      for (const message of decodeFrames(received.subarray(0, length))) {
        // Of a question before, which failed before its end.
        if (message.seq !== seq) continue;
        if (message.type !== NLMSG_ERROR && message.type !== NLMSG_DONE) {
          messages.push({ ...message, payload: Buffer.from(message.payload) });
          continue;
        }
        const code = message.payload.length >= 4 ? -message.payload.readInt32LE(0) : 0;
        if (code !== 0) throw refused(op, code);
        return messages;
      }
    }
  }
}

const LOOKS =
  "check that the kernel has nf_tables and nf_conntrack_netlink; the next look tries again";

function refused(op: string, code: number): OverlayError {
  return refusedByKernel(op, code, LOOKS);
}
