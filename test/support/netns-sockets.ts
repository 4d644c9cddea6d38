import { createSocket, type Socket } from "node:dgram";
import { createServer, type Server } from "node:net";
import koffi from "koffi";
import { inNetns } from "../../agent/kernel/netns.ts";

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const bind = libc.func("int bind(int fd, const uint8_t *address, uint length)");
const listen = libc.func("int listen(int fd, int backlog)");

/**
 * Sockets of this process in other network namespaces, as if a program there had opened them. Node's own
 * bind comes later than its call, when the thread is back, so the descriptors are made here.
 */

/** Port 0: one of the kernel's choice, when it first sends. */
export async function udpIn(netns: string, address: string, port: number): Promise<Socket> {
  const udp = createSocket("udp4");
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

function make(netns: string, type: number, address: string, port: number): number {
  return inNetns(netns, () => {
    const fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) as number;
    if (fd < 0) throw new Error(`socket: errno ${koffi.errno()}`);
    const name = socketAddress(address, port);
    if ((bind(fd, name, name.length) as number) !== 0)
      throw new Error(`bind ${address}:${port}: errno ${koffi.errno()}`);
    if (type === SOCK_STREAM && (listen(fd, 64) as number) !== 0)
      throw new Error(`listen: errno ${koffi.errno()}`);
    return fd;
  });
}

/** `struct sockaddr_in`. */
function socketAddress(address: string, port: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  for (const [i, part] of address.split(".").entries()) bytes[4 + i] = Number(part);
  return bytes;
}
