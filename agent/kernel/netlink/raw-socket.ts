import { readdirSync, readlinkSync } from "node:fs";
import koffi from "koffi";
import { RawNetlinkSocket } from "netlink";
import { assert } from "../../../shared/errors.ts";
import { inNetns } from "../netns.ts";

const libc = koffi.load("libc.so.6");
const setsockopt = libc.func(
  "int setsockopt(int fd, int level, int name, const void *value, uint32_t length)",
);

/** Families of netlink(7) that are spoken here. */
export const NETLINK = { route: 0, xfrm: 6, generic: 16 } as const;
export type NetlinkFamily = (typeof NETLINK)[keyof typeof NETLINK];

const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_NO_ENOBUFS = 5;
const RECEIVE_BYTES = 8 << 20;

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
    const before = new Set(openSockets().keys());
    const socket = new RawNetlinkSocket(family, {
      recvBufferSize: 1 << 20,
      sendBufferSize: 1 << 20,
    });
    // The package does not say which descriptor it is. Nothing else was opened in between.
    const [fd] = [...openSockets()].flatMap(([inode, held]) => (before.has(inode) ? [] : [held]));
    assert(fd !== undefined, "a socket that was opened is open");
    set(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
    set(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES);
    for (const group of groups) socket.addMembership(group);
    return socket;
  });
}

export function openRouteSocket(
  netns: string | undefined,
  groups: readonly number[] = [],
): RawNetlinkSocket {
  return openNetlinkSocket(netns, NETLINK.route, groups);
}

function set(fd: number, level: number, name: number, number: number): void {
  const value = Buffer.alloc(4);
  value.writeInt32LE(number);
  assert(setsockopt(fd, level, name, value, 4) === 0, `socket option ${level}/${name} is taken`);
}

/** Descriptors of sockets, by what they are: `socket:[inode]`. */
function openSockets(): Map<string, number> {
  const found = new Map<string, number>();
  for (const name of readdirSync("/proc/self/fd"))
    try {
      const what = readlinkSync(`/proc/self/fd/${name}`);
      if (what.startsWith("socket:")) found.set(what, Number(name));
    } catch {
      // The descriptor of the listing itself, closed by now.
    }
  return found;
}
