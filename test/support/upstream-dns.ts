import type { Socket } from "node:dgram";
import type { Server, Socket as Connection } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import packet from "dns-packet";
import { tcpIn, udpIn } from "./netns-sockets.ts";

/** Over UDP without EDNS, RFC 1035, 4.2.1. */
const PLAIN_BYTES = 512;
const NXDOMAIN = 3;

export const OUTSIDE = "203.0.113.80";
export const OUTSIDE_IPV6 = "2001:db8:1::80";
export const SEARCHED = "203.0.113.81";
/** More than a UDP answer without EDNS has room for. */
export const BIG = Array.from({ length: 100 }, (_, i) => `203.0.113.${i + 1}`);
const SLOW_MS = 1500;

const ADDRESSES: Readonly<Record<string, readonly string[]>> = {
  "outside.test": [OUTSIDE],
  "slow.test": [OUTSIDE],
  "big.test": BIG,
  "one.searched.test": [SEARCHED],
};

/**
 * The name server that hosts have besides: UDP and TCP, in a namespace. It knows outside.test, big.test
 * (does not fit into a UDP packet), slow.test (answers late) and one.searched.test; anything else is
 * NXDOMAIN. It counts what it was asked.
 */
export class UpstreamDns {
  readonly #udp: Socket;
  readonly #tcp: Server;
  readonly #connections = new Set<Connection>();
  readonly #asked = new Map<string, number>();

  private constructor(udp: Socket, tcp: Server) {
    this.#udp = udp;
    this.#tcp = tcp;
    udp.on("message", (bytes, { address, port }) => {
      void this.#answer(bytes, undefined).then((answer) => {
        if (answer !== undefined) udp.send(answer, port, address, () => {});
      });
    });
    // Who asked may be gone; that is no concern of the next.
    udp.on("error", () => {});
    tcp.on("connection", (connection) => this.#serve(connection));
  }

  static async start(netns: string, address: string): Promise<UpstreamDns> {
    const udp = await udpIn(netns, address, 53);
    return new UpstreamDns(udp, await tcpIn(netns, address, 53));
  }

  /** How often, of any type. */
  asked(name: string): number {
    return this.#asked.get(name.toLowerCase()) ?? 0;
  }

  /** How many, of any name. */
  questions(): number {
    return [...this.#asked.values()].reduce((sum, count) => sum + count, 0);
  }

  close(): void {
    this.#udp.close();
    this.#tcp.close();
    for (const connection of this.#connections) connection.destroy();
  }

  #serve(connection: Connection): void {
    this.#connections.add(connection);
    connection.on("error", () => {});
    connection.on("close", () => this.#connections.delete(connection));
    let held = Buffer.alloc(0);
    connection.on("data", (bytes: Buffer) => {
      held = Buffer.concat([held, bytes]);
      while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
        const end = 2 + held.readUInt16BE(0);
        const question = held.subarray(2, end);
        held = held.subarray(end);
        void this.#answer(question, 65_535).then((answer) => {
          if (answer === undefined || connection.destroyed) return;
          const length = Buffer.alloc(2);
          length.writeUInt16BE(answer.length);
          connection.write(Buffer.concat([length, answer]));
        });
      }
    });
  }

  /** `room`: in bytes; undefined where the question says it. */
  async #answer(bytes: Buffer, room: number | undefined): Promise<Buffer | undefined> {
    const query = packet.decode(bytes);
    const [question] = query.questions ?? [];
    if (query.type !== "query" || question === undefined) return undefined;
    const name = question.name.toLowerCase();
    this.#asked.set(name, this.asked(name) + 1);
    if (name === "slow.test") await delay(SLOW_MS);
    const opt = query.additionals?.find(({ type }) => type === "OPT") as
      { udpPayloadSize?: number } | undefined;
    const addresses = ADDRESSES[name];
    const answer = (given: readonly string[], flags: number): Buffer =>
      packet.encode({
        type: "response",
        id: query.id ?? 0,
        flags: flags | packet.RECURSION_DESIRED | packet.RECURSION_AVAILABLE,
        questions: [question],
        answers: given.map((address) => ({
          type: "A",
          name: question.name,
          ttl: 60,
          data: address,
        })),
      });
    if (addresses === undefined) return answer([], NXDOMAIN);
    if (question.type === "AAAA" && name === "outside.test")
      return packet.encode({
        type: "response",
        id: query.id ?? 0,
        flags: packet.RECURSION_DESIRED | packet.RECURSION_AVAILABLE,
        questions: [question],
        answers: [{ type: "AAAA", name: question.name, ttl: 60, data: OUTSIDE_IPV6 }],
      });
    const limit = room ?? Math.max(PLAIN_BYTES, opt?.udpPayloadSize ?? 0);
    const data = question.type === "A" ? addresses : [];
    for (let count = data.length; ; count--) {
      const flags = count < data.length ? packet.TRUNCATED_RESPONSE : 0;
      const bytes = answer(data.slice(0, count), flags);
      if (bytes.length <= limit) return bytes;
    }
  }
}
