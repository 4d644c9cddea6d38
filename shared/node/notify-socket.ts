import koffi from "koffi";

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");

// As unistd.h of x86-64 and arm64 has them: 64 bits, little endian.
const iovec = koffi.struct({ base: "const uint8_t *", length: "size_t" });
const msghdr = koffi.struct({
  name: "const uint8_t *",
  nameLength: "uint32_t",
  iov: koffi.pointer(iovec),
  iovLength: "size_t",
  control: "const uint8_t *",
  controlLength: "size_t",
  flags: "int",
});
const sendmsg = libc.func("sendmsg", "long", ["int", koffi.pointer(msghdr), "int"]);

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const MSG_DONTWAIT_NOSIGNAL = 0x40 | 0x4000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;

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
    return this.sendWith(undefined, ...assignments) === "sent";
  }

  /** The manager gets a copy of `fd`. `full`: try again later. `refused`: it will never take this. */
  sendWith(fd: number | undefined, ...assignments: readonly string[]): Sent {
    const bytes = Buffer.from(assignments.join("\n"));
    const control = fd === undefined ? undefined : rights(fd);
    const message = {
      name: this.#to,
      nameLength: this.#to.length,
      iov: { base: bytes, length: bytes.length },
      iovLength: 1,
      control: control ?? null,
      controlLength: control?.length ?? 0,
      flags: 0,
    };
    if ((sendmsg(this.#fd, message, MSG_DONTWAIT_NOSIGNAL) as number) === bytes.length)
      return "sent";
    const { EAGAIN, ENOBUFS, EINTR } = koffi.os.errno;
    return [EAGAIN, ENOBUFS, EINTR].includes(koffi.errno()) ? "full" : "refused";
  }
}

export type Sent = "sent" | "full" | "refused";

/** struct cmsghdr of cmsg(3) with one descriptor, padded to 8 bytes. */
function rights(fd: number): Buffer {
  const header = Buffer.alloc(24);
  header.writeBigUInt64LE(20n, 0);
  header.writeInt32LE(SOL_SOCKET, 8);
  header.writeInt32LE(SCM_RIGHTS, 12);
  header.writeInt32LE(fd, 16);
  return header;
}

/** struct sockaddr_un of unix(7), as long as the address is: an abstract one ends with its length. */
export function socketAddress(address: string): Buffer {
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  const abstract = address.startsWith("@");
  return Buffer.concat([family, Buffer.from(abstract ? `\0${address.slice(1)}` : `${address}\0`)]);
}
