import { createSocket } from "node:dgram";
import koffi from "koffi";
import { OverlayError } from "../../../shared/errors.ts";
import { type Ip, ipToBytes } from "../../../shared/ip.ts";

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const setsockopt = libc.func(
  "int setsockopt(int fd, int level, int name, const void *value, uint32_t length)",
);
const sendto = libc.func(
  "long sendto(int fd, const void *bytes, size_t length, int flags, const void *to, uint32_t tolength)",
);
const recv = libc.func("long recv(int fd, _Out_ void *bytes, size_t length, int flags)");

const AF_INET = 2;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0o4000 | 0o2000000;
const IPPROTO_ICMP = 1;
const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
const IP_PMTUDISC_PROBE = 3;
const ECHO_REQUEST = 8;
const ECHO_REPLY = 0;
/** IPv4 header without options, ICMP header: what of a packet is not payload. */
const HEADERS_BYTES = 28;
/** Questions under way. */
const READ_AFTER = 16;
/** Of messages that are kept. */
const SIZES = 8;

/**
 * Echo requests with DF from an unprivileged ICMP socket (icmp(7)), of the namespace it is made in. Node makes none, and
 * reads one as it reads a UDP socket's: of this kind and family it takes them for the same (uv_guess_handle).
 */
export class PingSocket {
  readonly #fd: number;
  readonly #reader = createSocket("udp4");
  readonly #buffer = Buffer.alloc(65536);
  /** By sequence number: told when the answer came; undefined: none will. */
  readonly #waiting = new Map<number, (atMs: number | undefined) => void>();
  readonly #messages = new Map<number, Buffer>();
  #lastSeq = 0;
  #closed = false;

  /** @throws NETLINK when the kernel gives no such socket. */
  constructor() {
    this.#fd = socket(AF_INET, SOCK_DGRAM_NONBLOCK_CLOEXEC, IPPROTO_ICMP) as number;
    if (this.#fd < 0)
      throw new OverlayError({ code: "NETLINK", op: "socket ICMP", message: "no ping socket" });
    const probe = Buffer.alloc(4);
    probe.writeInt32LE(IP_PMTUDISC_PROBE);
    setsockopt(this.#fd, IPPROTO_IP, IP_MTU_DISCOVER, probe, 4);
    this.#reader.on("message", (bytes) => this.#heard(bytes, bytes.length));
    // What cannot be read is no answer.
    this.#reader.on("error", () => {});
    this.#reader.bind({ fd: this.#fd, exclusive: true });
    this.#reader.unref();
  }

  /** Milliseconds until the answer came to a packet of that size; undefined: none within the time. */
  echo(to: Ip, bytes: number, timeoutMs: number): Promise<number | undefined> {
    if (this.#closed) return Promise.resolve(undefined);
    const seq = (this.#lastSeq = (this.#lastSeq + 1) & 0xffff);
    const message = this.#message(bytes);
    message.writeUInt16BE(seq, 6);
    const address = Buffer.alloc(16);
    address.writeUInt16LE(AF_INET, 0);
    address.set(ipToBytes(to), 4);
    const sentMs = performance.now();
    const sent = sendto(this.#fd, message, message.length, 0, address, address.length) as number;
    if (sent < 0) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const end = (atMs: number | undefined): void => {
        clearTimeout(timer);
        this.#waiting.delete(seq);
        resolve(atMs === undefined ? undefined : atMs - sentMs);
      };
      const timer = setTimeout(() => {
        // Who had no CPU finds the time over and the answer there: it came, and nobody is lost by it.
        this.#receive();
        end(undefined);
      }, timeoutMs);
      this.#waiting.set(seq, end);
      // Who asks many at once reads between: the kernel holds the answers of a hundred or so.
      if (this.#waiting.size % READ_AFTER === 0) this.#receive();
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const end of this.#waiting.values()) end(undefined);
    this.#reader.close();
  }

  /** Of one size all are the same but for their number. */
  #message(bytes: number): Buffer {
    let message = this.#messages.get(bytes);
    if (message === undefined) {
      message = Buffer.alloc(8 + bytes - HEADERS_BYTES, 0x5a);
      message.writeUInt8(ECHO_REQUEST, 0);
      message.writeUInt8(0, 1);
      message.writeUInt16BE(0, 2);
      // Sizes change with the underlay's MTU, and then for good.
      if (this.#messages.size >= SIZES) this.#messages.clear();
      this.#messages.set(bytes, message);
    }
    return message;
  }

  #receive(): void {
    for (;;) {
      const length = recv(this.#fd, this.#buffer, this.#buffer.length, 0) as number;
      if (length < 0) return;
      this.#heard(this.#buffer, length);
    }
  }

  #heard(bytes: Buffer, length: number): void {
    if (length < 8 || bytes.readUInt8(0) !== ECHO_REPLY) return;
    this.#waiting.get(bytes.readUInt16BE(6))?.(performance.now());
  }
}
