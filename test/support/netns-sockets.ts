import { createSocket, type Socket } from "node:dgram";
import { createServer, type Server, Socket as TcpSocket } from "node:net";
import koffi from "koffi";
import { inNetns } from "../../agent/kernel/netns.ts";
import { familyOf, type Ip, ipToBytes } from "../../shared/ip.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const EINPROGRESS = 115;

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const bind = libc.func("int bind(int fd, const uint8_t *address, uint length)");
const connect = libc.func("int connect(int fd, const uint8_t *address, uint length)");
const listen = libc.func("int listen(int fd, int backlog)");

/**
 * Sockets of this process in other network namespaces, as if a program there had opened them. Node's own
 * bind comes later than its call, when the thread is back, so the descriptors are made here.
 */

/** Port 0: one of the kernel's choice, when it first sends. */
export async function udpIn(netns: string, address: string, port: number): Promise<Socket> {
  const udp = createSocket(familyOf(address as Ip) === 4 ? "udp4" : "udp6");
  const fd = make(netns, SOCK_DGRAM, address, port);
  await new Promise<void>((resolve, reject) => {
    udp.once("error", reject);
    udp.bind({ fd }, () => {
      udp.off("error", reject);
      resolve();
    });
  });
  return udp;
}

export async function tcpIn(netns: string, address: string, port: number): Promise<Server> {
  const server = createServer();
  const fd = make(netns, SOCK_STREAM, address, port);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ fd }, () => {
      server.off("error", reject);
      resolve();
    });
  });
  return server;
}

/** Still connecting: what is written is sent when it is connected, and a refusal is its `error`. */
export function dialFrom(netns: string, address: string, port: number): TcpSocket {
  const fd = inNetns(netns, () => {
    const fd = open(SOCK_STREAM, address);
    const name = socketAddress(address, port);
    if ((connect(fd, name, name.length) as number) !== 0 && koffi.errno() !== EINPROGRESS)
      throw new Error(`connect ${address}:${port}: errno ${koffi.errno()}`);
    return fd;
  });
  return new TcpSocket({ fd, readable: true, writable: true });
}

function open(type: number, address: string): number {
  const family = familyOf(address as Ip) === 4 ? AF_INET : AF_INET6;
  const fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) as number;
  if (fd < 0) throw new Error(`socket: errno ${koffi.errno()}`);
  return fd;
}

function make(netns: string, type: number, address: string, port: number): number {
  return inNetns(netns, () => {
    const fd = open(type, address);
    const name = socketAddress(address, port);
    if ((bind(fd, name, name.length) as number) !== 0)
      throw new Error(`bind ${address}:${port}: errno ${koffi.errno()}`);
    if (type === SOCK_STREAM && (listen(fd, 64) as number) !== 0)
      throw new Error(`listen: errno ${koffi.errno()}`);
    return fd;
  });
}

/** `struct sockaddr_in`, `struct sockaddr_in6`. */
function socketAddress(address: string, port: number): Buffer {
  const isIpv4 = familyOf(address as Ip) === 4;
  const bytes = Buffer.alloc(isIpv4 ? 16 : 28);
  bytes.writeUInt16LE(isIpv4 ? AF_INET : AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ipToBytes(address as Ip), isIpv4 ? 4 : 8);
  return bytes;
}
