import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import koffi from "koffi";
import { OverlayError } from "../../shared/errors.ts";
import { errnoName } from "./errno.ts";

const CLONE_NEWNET = 0x40000000;
const MS_BIND = 4096;
const MNT_DETACH = 2;
// include/uapi/linux/sockios.h
const SIOCGSKNS = 0x894c;

const libc = koffi.load("libc.so.6");
const setns = libc.func("int setns(int fd, int nstype)");
const unshare = libc.func("int unshare(int flags)");
const mount = libc.func(
  "int mount(const char *source, const char *target, const char *type, ulong flags, const void *data)",
);
const umount2 = libc.func("int umount2(const char *target, int flags)");
const ioctl = libc.func("int ioctl(int fd, ulong request, int argument)");

/** The thread's own namespace, not the process's: Node has several threads, only this one moves. */
const OWN = "/proc/thread-self/ns/net";

/**
 * Runs synchronous code in another network namespace (setns(2)); undefined is our own. A socket
 * made inside stays there for ever. Nothing asynchronous may be inside: it would run elsewhere.
 */
export function inNetns<T>(path: string | undefined, run: () => T): T {
  if (path === undefined) return run();
  return returning(() => {
    const target = openSync(path, "r");
    try {
      check(setns(target, CLONE_NEWNET) as number, `setns ${path}`);
    } finally {
      closeSync(target);
    }
    return run();
  });
}

/** A new namespace, kept by a bind mount at `path` as ip-netns(8) does, alive without any process. */
export function createPinnedNetns(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o711 });
  writeFileSync(path, "", { flag: "a" });
  returning(() => {
    check(unshare(CLONE_NEWNET) as number, "unshare network namespace");
    check(mount(OWN, path, "none", MS_BIND, null) as number, `bind mount ${path}`);
  });
}

/** NSFS_MAGIC of linux/magic.h: what statfs says of a pinned namespace; a plain file is a leftover. */
const NSFS_MAGIC = 0x6e736673;

export function isPinnedNetns(path: string): boolean {
  return existsSync(path) && statfsSync(path).type === NSFS_MAGIC;
}

/**
 * The namespace mounted at `path`, as its inode. Undefined: none. A plain file is there before Docker mounts one
 * (createNamespaceFile of libnetwork/osl/namespace_linux.go), and often after it.
 */
export function namespaceAt(path: string): number | undefined {
  try {
    return statfsSync(path).type === NSFS_MAGIC ? statSync(path).ino : undefined;
  } catch {
    return undefined;
  }
}

/** Runs synchronous code in a new namespace, which ends with it, or with the sockets that were made there. */
export function inScratchNetns<T>(run: () => T): T {
  return returning(() => {
    check(unshare(CLONE_NEWNET) as number, "unshare network namespace");
    return run();
  });
}

/** A descriptor of a namespace for `work`, which makes or moves links into it; undefined is our own. */
export async function withNetnsDescriptor<T>(
  path: string | undefined,
  work: (fd: number) => Promise<T>,
): Promise<T> {
  const fd = openSync(path ?? OWN, "r");
  try {
    return await work(fd);
  } finally {
    closeSync(fd);
  }
}

/** Settings below /proc/sys/net of a namespace; one that this kernel has not is passed over. */
export function setNetSettings(
  path: string | undefined,
  settings: readonly (readonly [string, string])[],
): void {
  inNetns(path, () => {
    for (const [name, value] of settings) {
      const file = `/proc/sys/net/${name}`;
      if (existsSync(file)) writeFileSync(file, value);
    }
  });
}

/** Those of the settings that are another than they should be, in words. */
export function netSettingFaults(
  path: string | undefined,
  settings: readonly (readonly [string, string])[],
): string[] {
  return inNetns(path, () =>
    settings.flatMap(([name, value]) => {
      const file = `/proc/sys/net/${name}`;
      const is = existsSync(file)
        ? readFileSync(file, "utf8").trim().replaceAll(/\s+/g, " ")
        : value;
      return is === value ? [] : [`its setting ${name} is ${is} and should be ${value}`];
    }),
  );
}

/** icmp(7): sockets that may only send echo requests, for every group; in a namespace of ours there is only us. */
export const ECHO_SOCKETS = ["ipv4/ping_group_range", "0 2147483647"] as const;

/** WireGuard's device and the VXLAN sockets of its class, see agent/encryption/wireguard/README.md. */
export function transportNetns(netnsDirectory: string): string {
  return join(netnsDirectory, "wireguard");
}

/** Already gone is success; devices inside end with the namespace. */
export function deletePinnedNetns(path: string): void {
  umount2(path, MNT_DETACH);
  rmSync(path, { force: true });
}

/** The namespace that this thread is in: the inode of its file in nsfs. */
export function ownNamespace(): number {
  return statSync(OWN).ino;
}

/** The number of the socket's namespace: the inode of its file in nsfs. */
export function namespaceOf(fd: number): number {
  const namespace = ioctl(fd, SIOCGSKNS, 0) as number;
  check(Math.min(namespace, 0), "ioctl SIOCGSKNS");
  try {
    return fstatSync(namespace).ino;
  } finally {
    closeSync(namespace);
  }
}

function returning<T>(run: () => T): T {
  const own = openSync(OWN, "r");
  try {
    return run();
  } finally {
    // A thread left in a foreign namespace would program the wrong host: better dead.
    if ((setns(own, CLONE_NEWNET) as number) !== 0) process.abort();
    closeSync(own);
  }
}

function check(result: number, op: string): void {
  if (result === 0) return;
  const errno = errnoName(koffi.errno());
  throw new OverlayError({
    code: "NETLINK",
    op,
    errno,
    message: `${op} failed: ${errno}`,
    ...(errno === "EPERM" ? { next: "run as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN" } : {}),
  });
}
