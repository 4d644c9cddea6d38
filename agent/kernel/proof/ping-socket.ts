import { setTimeout as delay } from "node:timers/promises";
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
const close = libc.func("int close(int fd)");

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

/**
 * Echo requests with DF from an unprivileged ICMP socket (icmp(7)), of the namespace it is made
 * in. Node has no such sockets: it is polled, and only while an answer is awaited.
 */
export class PingSocket {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(65536);
  readonly #waiting = new Map<number, (atMs: number) => void>();
  #polling = false;
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
  }

  /** Milliseconds until the answer came to a packet of that size; undefined: none within the time. */
  async echo(to: Ip, bytes: number, timeoutMs: number): Promise<number | undefined> {
    if (this.#closed) return undefined;
    const seq = (this.#lastSeq = (this.#lastSeq + 1) & 0xffff);
    const message = Buffer.alloc(8 + bytes - HEADERS_BYTES, 0x5a);
    message.writeUInt8(ECHO_REQUEST, 0);
    message.writeUInt8(0, 1);
    message.writeUInt16BE(0, 2);
    message.writeUInt16BE(seq, 6);
    const address = Buffer.alloc(16);
    address.writeUInt16LE(AF_INET, 0);
    address.set(ipToBytes(to), 4);
    const sentMs = performance.now();
    const sent = sendto(this.#fd, message, message.length, 0, address, address.length) as number;
    if (sent < 0) return undefined;
    let answeredMs: number | undefined;
    const answered = new Promise<void>((resolve) =>
      this.#waiting.set(seq, (atMs) => {
        answeredMs = atMs;
        resolve();
      }),
    );
    void this.#poll();
    const timer = new AbortController();
    const late = delay(timeoutMs, undefined, { signal: timer.signal }).catch(() => undefined);
    await Promise.race([answered, late]);
    timer.abort();
    // Who had no CPU finds the time over and the answer there: it came, and nobody is lost by it.
    if (!this.#closed) this.#receive();
    this.#waiting.delete(seq);
    return answeredMs === undefined ? undefined : answeredMs - sentMs;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waiting.clear();
    close(this.#fd);
  }

  /** Often at first, for a round trip worth showing; then rarely, for one that is lost. */
  async #poll(): Promise<void> {
    if (this.#polling) return;
    this.#polling = true;
    let pauses = 0;
    while (this.#waiting.size > 0 && !this.#closed) {
      this.#receive();
      await delay(pauses++ < 20 ? 1 : 20);
    }
    this.#polling = false;
  }

  #receive(): void {
    for (;;) {
      const length = recv(this.#fd, this.#buffer, this.#buffer.length, 0) as number;
      if (length < 8) return;
      if (this.#buffer.readUInt8(0) !== ECHO_REPLY) continue;
      this.#waiting.get(this.#buffer.readUInt16BE(6))?.(performance.now());
    }
  }
}
