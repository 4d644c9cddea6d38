import type { Socket } from "node:dgram";

import packet, { type Packet, type RecordType } from "dns-packet";
import { Ip } from "../../shared/ip.ts";
import { udpIn } from "./netns-sockets.ts";

export interface Reply {
  /** NOERROR, NXDOMAIN, …; NONE: no answer in time. */
  readonly rcode: string;
  /** Addresses in canonical form, or names, in the order they came. */
  readonly data: readonly string[];
  readonly ttls: readonly number[];
  readonly truncated: boolean;
  readonly tookMs: number;
}

export interface AskOptions {
  readonly type?: RecordType;
  readonly timeoutMs?: number;
  readonly server?: string;
  /** EDNS: how much the one who asks can take; undefined: nothing is said. */
  readonly udpBytes?: number;
}

const DOCKERS = "127.0.0.11";

/** DNS questions out of a network namespace, each from a socket of its own as a libc does. */
export class Asking {
  readonly #netns: string;
  #lastId = 0;

  constructor(netns: string) {
    this.#netns = netns;
  }

  async ask(
    name: string,
    { type = "A", timeoutMs = 5000, server = DOCKERS, udpBytes }: AskOptions = {},
  ): Promise<Reply> {
    const udp = await udpIn(this.#netns, "0.0.0.0", 0);
    const id = (this.#lastId = (this.#lastId + 1) & 0xffff);
    const edns = udpBytes === undefined ? {} : { additionals: [optRecord(udpBytes)] };
    const query = packet.encode({
      type: "query",
      id,
      flags: packet.RECURSION_DESIRED,
      questions: [{ type, name }],
      ...edns,
    });
    const begunMs = performance.now();
    try {
      const answer = await exchange(udp, query, server, id, timeoutMs);
      return reply(answer, type, performance.now() - begunMs);
    } finally {
      udp.close();
    }
  }

  /** What a name's addresses are, sorted; empty also when there is no such name. */
  async addresses(name: string, options: AskOptions = {}): Promise<string[]> {
    return (await this.ask(name, options)).data.toSorted();
  }
}

function exchange(
  udp: Socket,
  query: Buffer,
  server: string,
  id: number,
  timeoutMs: number,
): Promise<Packet | undefined> {
  return new Promise((resolve, reject) => {
    // What is in the socket is there in time, however late this process comes to read it: timers are looked at first.
    const timer = setTimeout(() => setImmediate(() => resolve(undefined)), timeoutMs);
    const done = (finish: () => void): void => {
      clearTimeout(timer);
      finish();
    };
    udp.on("message", (bytes) => {
      const answer = packet.decode(bytes);
      if (answer.id === id) done(() => resolve(answer));
    });
    udp.on("error", (error) => done(() => reject(error)));
    udp.send(query, 53, server, (error) => {
      // Refused is an answer as well: nobody is there.
      if (error !== null) done(() => resolve(undefined));
    });
  });
}

function reply(answer: Packet | undefined, type: RecordType, tookMs: number): Reply {
  const records = (answer?.answers ?? []).filter((record) => record.type === type);
  return {
    rcode: answer === undefined ? "NONE" : String((answer as { rcode?: string }).rcode),
    data: records.map((record) => {
      const data = String((record as { data: unknown }).data);
      return type === "A" || type === "AAAA" ? Ip.parse(data) : data;
    }),
    ttls: records.map((record) => (record as { ttl?: number }).ttl ?? 0),
    truncated: (answer as { flag_tc?: boolean } | undefined)?.flag_tc === true,
    tookMs,
  };
}

function optRecord(udpPayloadSize: number) {
  const none = { extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false, options: [] };
  return { type: "OPT", name: ".", udpPayloadSize, ...none } as const;
}
