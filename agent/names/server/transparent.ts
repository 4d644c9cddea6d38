import koffi from "koffi";

// No shared/errors.ts: this is loaded while containers wait for answers, and that brings all of zod.

const libc = koffi.load("libc.so.6");
const setsockopt = libc.func(
  "int setsockopt(int fd, int level, int name, const int *value, uint32_t length)",
);
const getsockopt = libc.func(
  "int getsockopt(int fd, int level, int name, _Out_ int *value, _Inout_ uint32_t *length)",
);

const SOL_SOCKET = 1;
const SO_PRIORITY = 12;
const IPPROTO_IP = 0;
const IP_TRANSPARENT = 19;

/**
 * Questions of a sandbox go to a socket of ours only while it is transparent (nft's tproxy looks for
 * one): Docker's resolver answers there from the next question on. False: not a socket of ours.
 */
export function letDockerAnswer(fd: number): boolean {
  return set(fd, IPPROTO_IP, IP_TRANSPARENT, 0);
}

/**
 * A number that stays with a socket, whoever holds it: its priority, which means nothing on a loopback
 * interface, where there is no queue. 0 to 6.
 */
export function markOf(fd: number): number {
  const value = [0];
  return getsockopt(fd, SOL_SOCKET, SO_PRIORITY, value, [4]) === 0 ? (value[0] ?? 0) : 0;
}

export function setMark(fd: number, mark: number): void {
  set(fd, SOL_SOCKET, SO_PRIORITY, mark);
}

function set(fd: number, level: number, name: number, value: number): boolean {
  return setsockopt(fd, level, name, [value], 4) === 0;
}
