import { closeSync } from "node:fs";
import koffi from "koffi";
import { OverlayError } from "../../../shared/errors.ts";
import { errnoName } from "../../kernel/errno.ts";
import { DNS_PORT, RESOLVER_ADDRESS } from "./reinjection.ts";

/**
 * Socket calls that Node has not (socket(2), ip(7)). A socket belongs to the namespace in which it is
 * made: those that make one run inside `inNetns`.
 */

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const bind = libc.func("int bind(int fd, const void *address, uint32_t length)");
const connect = libc.func("int connect(int fd, const void *address, uint32_t length)");
const listen = libc.func("int listen(int fd, int backlog)");
const fcntl = libc.func("int fcntl(int fd, int command, int argument)");
const send = libc.func("long send(int fd, const void *bytes, size_t length, int flags)");
const sendto = libc.func(
  "long sendto(int fd, const void *bytes, size_t length, int flags, const void *to, uint32_t tolength)",
);
const setsockopt = libc.func(
  "int setsockopt(int fd, int level, int name, const void *value, uint32_t length)",
);
const getsockopt = libc.func(
  "int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32_t *length)",
);
const getsockname = libc.func(
  "int getsockname(int fd, _Out_ void *address, _Inout_ uint32_t *length)",
);

// include/linux/socket.h, include/linux/net.h
const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const MSG_DONTWAIT = 0x40;
// include/uapi/linux/in.h
const IPPROTO_IP = 0;
const IPPROTO_RAW = 255;
const IP_TRANSPARENT = 19;
// include/uapi/asm-generic/socket.h
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SO_MARK = 36;
const SO_MEMINFO = 55;
// include/uapi/linux/sock_diag.h: SK_MEMINFO_*, an array of 32 bits each.
const SK_MEMINFO_RMEM_ALLOC = 0;
const SK_MEMINFO_DROPS = 8;
const SK_MEMINFO_VARS = 9;
// include/uapi/linux/fcntl.h
const F_DUPFD_CLOEXEC = 1030;
/** FD_SETSIZE: what select(2) can watch; see `agent/kernel/nft/nftables.ts`. */
const ABOVE_SELECT = 1024;
const ABOVE_STDIO = 3;

const BACKLOG = 128;
/** Doubled by the kernel (socket(7)): some 2,500 questions. */
const RECEIVE_BYTES = 1 << 20;
const PORT_ATTEMPTS = 16;

/** "OV": what is marked goes past our own rules. */
export const MARK = 0x4f56;

/** The sockets of one sandbox. */
export interface GateSockets {
  /** On 127.0.0.11, on the same port. */
  readonly udp: number;
  readonly tcp: number;
  /** Sends clients' own packets on, marked. */
  readonly raw: number;
}

/**
 * @throws NETLINK; ENETUNREACH while the namespace's `lo` is down. To bind is no test for that: in a
 * namespace without any route the kernel lets bind(2) pass, and then answers from another address
 * (RTN_BROADCAST of inet_dev_addr_type, net/ipv4/fib_frontend.c; __inet_bind, af_inet.c).
 */
export function openGateSockets(): GateSockets {
  closeSync(openUpstream("udp"));
  const opened: number[] = [];
  try {
    for (let attempt = 1; ; attempt++) {
      const udp = open(SOCK_DGRAM, 0, "UDP");
      opened.push(udp);
      set(udp, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES);
      bindResolver(udp, 0);
      const tcp = open(SOCK_STREAM, 0, "TCP");
      opened.push(tcp);
      try {
        bindResolver(tcp, portOf(udp));
        check(listen(tcp, BACKLOG) as number, "listen");
      } catch (error) {
        if ((error as OverlayError).errno !== "EADDRINUSE" || attempt === PORT_ATTEMPTS)
          throw error;
        for (const fd of opened.splice(0)) closeSync(fd);
        continue;
      }
      const raw = openRawSocket();
      opened.push(raw);
      for (const fd of [udp, tcp]) setTransparent(fd, true);
      return { udp, tcp, raw };
    }
  } catch (error) {
    for (const fd of opened) closeSync(fd);
    throw error;
  }
}

export function openRawSocket(): number {
  return marked(open(SOCK_RAW, IPPROTO_RAW, "raw"));
}

/** Asks Docker's resolver, past our rules. Over TCP it is still connecting when this returns. */
export function openUpstream(transport: "udp" | "tcp"): number {
  const fd = marked(open(transport === "udp" ? SOCK_DGRAM : SOCK_STREAM, 0, transport));
  try {
    const to = resolver(DNS_PORT);
    if ((connect(fd, to, to.length) as number) !== 0 && errnoName(koffi.errno()) !== "EINPROGRESS")
      check(-1, "connect");
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** The switch of a gate: the kernel diverts to a socket only while it is transparent. */
export function setTransparent(fd: number, on: boolean): void {
  set(fd, IPPROTO_IP, IP_TRANSPARENT, on ? 1 : 0);
}

/** @returns false: the kernel did not take it. */
export function sendPacket(raw: number, packet: Buffer): boolean {
  const to = resolver(0);
  return (sendto(raw, packet, packet.length, MSG_DONTWAIT, to, to.length) as number) >= 0;
}

/** On a connected socket. @returns false: the kernel did not take it. */
export function sendBytes(fd: number, bytes: Buffer): boolean {
  return (send(fd, bytes, bytes.length, MSG_DONTWAIT) as number) >= 0;
}

export function portOf(fd: number): number {
  const address = Buffer.alloc(16);
  check(getsockname(fd, address, [address.length]) as number, "getsockname");
  return address.readUInt16BE(2);
}

/**
 * Another descriptor of the same socket, closed with exec. A high number: there are thousands of ours,
 * and the low ones are needed.
 */
export function duplicate(fd: number): number {
  for (const least of [ABOVE_SELECT, ABOVE_STDIO]) {
    const copy = fcntl(fd, F_DUPFD_CLOEXEC, least) as number;
    if (copy >= 0) return copy;
    // EINVAL: RLIMIT_NOFILE allows no such number (fcntl(2)).
    if (least === ABOVE_STDIO || errnoName(koffi.errno()) !== "EINVAL") check(-1, "fcntl F_DUPFD");
  }
  return fd;
}

/** The same socket under a high number. */
export function raised(fd: number): number {
  try {
    return duplicate(fd);
  } finally {
    closeSync(fd);
  }
}

/** What waits in the socket (bytes of the kernel's memory), and what was dropped since it was made. */
export function receiveState(fd: number): { readonly waiting: number; readonly drops: number } {
  const info = Buffer.alloc(4 * SK_MEMINFO_VARS);
  check(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, [info.length]) as number, "getsockopt");
  const at = (place: number): number => info.readUInt32LE(4 * place);
  return { waiting: at(SK_MEMINFO_RMEM_ALLOC), drops: at(SK_MEMINFO_DROPS) };
}

function open(type: number, protocol: number, what: string): number {
  const fd = socket(AF_INET, type | SOCK_NONBLOCK_CLOEXEC, protocol) as number;
  check(Math.min(fd, 0), `socket ${what}`);
  return raised(fd);
}

function marked(fd: number): number {
  try {
    set(fd, SOL_SOCKET, SO_MARK, MARK);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function bindResolver(fd: number, port: number): void {
  const address = resolver(port);
  check(bind(fd, address, address.length) as number, `bind ${RESOLVER_ADDRESS}:${port}`);
}

/** struct sockaddr_in (ip(7)). */
function resolver(port: number): Buffer {
  return socketAddress(RESOLVER_ADDRESS, port);
}

/** struct sockaddr_in of ip(7). */
function socketAddress(ip: string, port: number): Buffer {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.set(ip.split(".").map(Number), 4);
  return address;
}

function set(fd: number, level: number, name: number, number: number): void {
  const value = Buffer.alloc(4);
  value.writeInt32LE(number);
  check(setsockopt(fd, level, name, value, 4) as number, `setsockopt ${level}/${name}`);
}

function check(result: number, op: string): void {
  if (result === 0) return;
  const errno = errnoName(koffi.errno());
  throw new OverlayError({ code: "NETLINK", op, errno, message: `${op} failed: ${errno}` });
}
