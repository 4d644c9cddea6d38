import { closeSync } from "node:fs";
import koffi from "koffi";
import { inNetns } from "../../agent/kernel/netns.ts";
import { type Ip, ipToBytes } from "../../shared/ip.ts";

const AF_INET = 2;
const SOCK_RAW = 3;
const IPPROTO_TCP = 6;
const MSG_DONTWAIT = 0x40;
const FAR = 0x40000000;

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const recv = libc.func("long recv(int fd, _Out_ uint8_t *bytes, size_t length, int flags)");
const sendto = libc.func(
  "long sendto(int fd, const uint8_t *bytes, size_t length, int flags, const uint8_t *to, uint tolength)",
);

interface TcpEnd {
  readonly address: Ip;
  readonly port: number;
}

/**
 * A segment of a connection with a right acknowledgement, far outside the window (RFC 9293, 3.4), as a network delivers one
 * late. The server's last segment has to have been seen: what the client has sent since it is made tells both numbers.
 */
export class StraySegments {
  readonly #fd: number;

  /** raw(7): it is given a copy of what comes. */
  constructor(netns: string) {
    this.#fd = inNetns(netns, () => socket(AF_INET, SOCK_RAW, IPPROTO_TCP)) as number;
    if (this.#fd < 0) throw new Error(`socket: errno ${koffi.errno()}`);
  }

  /** From the server, in whose namespace this is, to the client. */
  send(server: TcpEnd, client: TcpEnd): void {
    const last = this.#last(client.port, server.port);
    const segment = Buffer.alloc(24, "x");
    segment.writeUInt16BE(server.port, 0);
    segment.writeUInt16BE(client.port, 2);
    segment.writeUInt32BE((last.expects + FAR) % 2 ** 32, 4);
    segment.writeUInt32BE(last.sent, 8);
    // Five words of header; ACK and PSH.
    segment.writeUInt16BE(0x5018, 12);
    segment.writeUInt16BE(0xffff, 14);
    segment.writeUInt32BE(0, 16);
    const ends = [...ipToBytes(server.address), ...ipToBytes(client.address)];
    const pseudo = Buffer.from([...ends, 0, IPPROTO_TCP, 0, segment.length]);
    segment.writeUInt16BE(checksum(Buffer.concat([pseudo, segment])), 16);
    const to = Buffer.alloc(16);
    to.writeUInt16LE(AF_INET, 0);
    to.set(ipToBytes(client.address), 4);
    if ((sendto(this.#fd, segment, segment.length, 0, to, to.length) as number) < 0)
      throw new Error(`sendto: errno ${koffi.errno()}`);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #last(from: number, to: number): { sent: number; expects: number } {
    const packet = Buffer.alloc(65_536);
    let found: { sent: number; expects: number } | undefined;
    for (;;) {
      const length = recv(this.#fd, packet, packet.length, MSG_DONTWAIT) as number;
      if (length < 0) break;
      const tcp = packet.subarray(4 * (packet[0]! & 0xf), length);
      if (tcp.readUInt16BE(0) !== from || tcp.readUInt16BE(2) !== to) continue;
      const data = tcp.length - 4 * (tcp[12]! >> 4);
      found = { sent: (tcp.readUInt32BE(4) + data) % 2 ** 32, expects: tcp.readUInt32BE(8) };
    }
    if (found === undefined) throw new Error("the client sent nothing");
    return found;
  }
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
