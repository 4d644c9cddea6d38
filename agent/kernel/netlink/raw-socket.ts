import { readdirSync } from "node:fs";
import koffi from "koffi";
import { RawNetlinkSocket } from "netlink";
import { assert } from "../../../shared/errors.ts";
import { inNetns, namespaceOf, ownNamespace } from "../netns.ts";

const libc = koffi.load("libc.so.6");
const setsockopt = libc.func(
  "int setsockopt(int fd, int level, int name, const void *value, uint32_t length)",
);
const getsockopt = libc.func(
  "int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32_t *length)",
);
const getsockname = libc.func(
  "int getsockname(int fd, _Out_ void *address, _Inout_ uint32_t *length)",
);

/** Families of netlink(7) that are spoken here. */
export const NETLINK = { route: 0, xfrm: 6, netfilter: 12, generic: 16 } as const;
export type NetlinkFamily = (typeof NETLINK)[keyof typeof NETLINK];

/** News of nf_tables (linux/netfilter/nfnetlink.h). */
export const NFNLGRP_NFTABLES = 7;

const AF_NETLINK = 16;
/** struct sockaddr_nl of netlink(7). */
const SOCKADDR_NL_BYTES = 12;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SO_PROTOCOL = 38;
const SOL_NETLINK = 270;
const NETLINK_NO_ENOBUFS = 5;
const NETLINK_GET_STRICT_CHK = 12;
const RECEIVE_BYTES = 8 << 20;

/**
 * The package goes on with a socket after an answer's callback has closed it, when it waits to write too, and ends the
 * process (a null pointer in PollHandler of its src/binding.cc): here it is closed between two events.
 */
class NetlinkSocket extends RawNetlinkSocket {
  #closed = false;

  override send(...args: Parameters<RawNetlinkSocket["send"]>): void {
    if (this.#closed) throw new Error("the socket was closed");
    super.send(...args);
  }

  override close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.removeAllListeners();
    // One without a listener would be thrown.
    this.on("error", () => {});
    setImmediate(() => super.close());
  }
}

/**
 * A netlink socket of a namespace (undefined: our own), member of multicast groups. When more comes
 * than is read the kernel drops it quietly: the `netlink` package ends the process on the error it
 * would send otherwise (it makes a string of a null pointer). What is dropped, a resync finds.
 */
export function openNetlinkSocket(
  netns: string | undefined,
  family: NetlinkFamily,
  groups: readonly number[] = [],
): RawNetlinkSocket {
  return inNetns(netns, () => {
    const socket = new NetlinkSocket(family, {
      recvBufferSize: 1 << 20,
      sendBufferSize: 1 << 20,
    });
    try {
      const fd = descriptorOf(socket, family);
      set(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
      // Else a dump of addresses does not look at which namespace it is to be of (net/ipv4/devinet.c).
      set(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
      set(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES);
      for (const group of groups) socket.addMembership(group);
      return socket;
    } catch (error) {
      socket.close();
      throw error;
    }
  });
}

export function openRouteSocket(
  netns: string | undefined,
  groups: readonly number[] = [],
): RawNetlinkSocket {
  return openNetlinkSocket(netns, NETLINK.route, groups);
}

/** To news: what is dropped when too much comes, or cannot be read, the periodic look finds. */
export function listenTo(socket: RawNetlinkSocket, onDatagram: (datagram: Buffer) => void): void {
  socket.on("message", (datagram) => {
    // Thrown through the native callback an error would end the process.
    try {
      onDatagram(datagram);
    } catch {
      // See above.
    }
  });
  socket.on("error", () => {});
}

/**
 * The package does not say which descriptor it is, and other threads open theirs meanwhile. Within a
 * namespace the kernel gives a port to one socket of a family (netlink(7)).
 */
function descriptorOf(socket: RawNetlinkSocket, family: NetlinkFamily): number {
  const { port } = socket.address();
  const namespace = ownNamespace();
  for (const name of readdirSync("/proc/self/fd")) {
    const fd = Number(name);
    if (netlinkPort(fd) === port && familyOf(fd) === family && namespaceOf(fd) === namespace)
      return fd;
  }
  throw new Error("broken invariant: a socket that was opened is open");
}

/** `nl_pid`; undefined: no netlink socket. */
function netlinkPort(fd: number): number | undefined {
  const address = Buffer.alloc(SOCKADDR_NL_BYTES);
  if (getsockname(fd, address, [address.length]) !== 0) return undefined;
  return address.readUInt16LE(0) === AF_NETLINK ? address.readUInt32LE(4) : undefined;
}

function familyOf(fd: number): number {
  const family = Buffer.alloc(4);
  const failed = getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, family, [family.length]);
  assert(failed === 0, "a netlink socket has a family");
  return family.readInt32LE(0);
}

function set(fd: number, level: number, name: number, number: number): void {
  const value = Buffer.alloc(4);
  value.writeInt32LE(number);
  assert(setsockopt(fd, level, name, value, 4) === 0, `socket option ${level}/${name} is taken`);
}
