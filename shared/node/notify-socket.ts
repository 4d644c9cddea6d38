import koffi from "koffi";

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const sendto = libc.func(
  "long sendto(int fd, const void *bytes, size_t length, int flags, const void *to, uint32_t tolength)",
);

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const MSG_DONTWAIT_NOSIGNAL = 0x40 | 0x4000;

/** Tells the service manager how the service stands: sd_notify(3), one datagram a message. */
export class NotifySocket {
  readonly #to: Buffer;
  readonly #fd: number;

  /** Node has no datagram sockets of this family. */
  constructor(address: string) {
    this.#to = socketAddress(address);
    this.#fd = socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0) as number;
  }

  /** `NAME=value` each. Never waits: false when the manager does not take it. */
  send(...assignments: readonly string[]): boolean {
    const bytes = Buffer.from(assignments.join("\n"));
    const { length } = this.#to;
    const flags = MSG_DONTWAIT_NOSIGNAL;
    const sent = sendto(this.#fd, bytes, bytes.length, flags, this.#to, length) as number;
    return sent === bytes.length;
  }
}

/** struct sockaddr_un of unix(7), as long as the address is: an abstract one ends with its length. */
export function socketAddress(address: string): Buffer {
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  const abstract = address.startsWith("@");
  return Buffer.concat([family, Buffer.from(abstract ? `\0${address.slice(1)}` : `${address}\0`)]);
}
