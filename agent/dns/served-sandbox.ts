import { createSocket, type RemoteInfo, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { NameTable } from "../core/name-table.ts";
import { inNetns } from "../kernel/netns.ts";
import { reply, type Transport } from "./answer.ts";
import { Conversation } from "./conversation.ts";
import type { Counters } from "./counters.ts";
import type { Gate } from "./gate.ts";
import type { HeldQuestions } from "./held-questions.ts";
import type { Sandbox } from "./port.ts";
import { type Client, clientPacket } from "./reinjection.ts";
import { awaitAnswer, closedAnswer } from "./relay.ts";
import { duplicate, openUpstream, receiveState, sendBytes, sendPacket } from "./sockets.ts";
import { TokenBucket } from "./token-bucket.ts";

/** What one container may have forwarded: about what Docker's own resolver does of external names. */
const FORWARDED_PER_SECOND = 5000;
const FORWARDED_BURST = 2000;
const RELAYS = 64;
const CONNECTIONS = 64;
const DRAIN_MS = 300;

export interface ServingModules {
  readonly names: NameTable;
  readonly held: HeldQuestions;
  readonly counters: Counters;
}

/**
 * One container's questions. Its sockets are read a few questions at a time (32, uv__udp_recvmsg of
 * libuv), then it is the next sandbox's turn: one that floods delays the others by no more than that.
 */
export class ServedSandbox {
  readonly gate: Gate;
  sandbox: Sandbox;
  readonly #modules: ServingModules;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #conversations = new Set<Conversation>();
  readonly #bucket = new TokenBucket(FORWARDED_PER_SECOND, FORWARDED_BURST, performance.now());
  #relays = 0;

  constructor(sandbox: Sandbox, gate: Gate, modules: ServingModules) {
    this.sandbox = sandbox;
    this.gate = gate;
    this.#modules = modules;
    const { counters } = modules;
    this.#udp = createSocket({
      type: "udp4",
      // Clients' addresses are addresses: nothing is to be looked up.
      lookup: (address, _options, done) => done(null, address, 4),
    });
    this.#udp.on("message", (query, client) => this.#asked(query, client));
    this.#udp.on("error", () => counters.count("droppedSend"));
    this.#udp.bind({ fd: duplicate(gate.sockets.udp), exclusive: true });
    this.#tcp = createServer({ allowHalfOpen: true }, (socket) => {
      counters.count("tcpConnections");
      const conversation = new Conversation(socket, {
        counters,
        ask: (query, answer, forward) => this.#ask(query, "tcp", answer, forward),
        openUpstream: () => this.#openUpstream(),
        closed: () => this.sandbox.closed,
      });
      this.#conversations.add(conversation);
      socket.on("close", () => this.#conversations.delete(conversation));
    });
    this.#tcp.maxConnections = CONNECTIONS;
    this.#tcp.on("drop", () => counters.count("droppedTcpConnections"));
    this.#tcp.on("error", () => counters.count("droppedTcpConnections"));
    this.#tcp.listen({ fd: duplicate(gate.sockets.tcp) });
  }

  /** Resolves when what was asked before is answered, or handed on. At most 300 ms. */
  async drain(atLeastMs: number): Promise<void> {
    this.#modules.held.decideNow(this);
    const untilMs = performance.now() + DRAIN_MS;
    await delay(atLeastMs);
    while (performance.now() < untilMs && !this.#quiet()) await delay(1);
  }

  close(): void {
    this.#modules.held.decideNow(this);
    this.#udp.close();
    this.#tcp.close();
    for (const conversation of this.#conversations) conversation.end();
  }

  #quiet(): boolean {
    return (
      this.#relays === 0 &&
      receiveState(this.gate.sockets.udp).waiting === 0 &&
      [...this.#conversations].every(({ quiet }) => quiet)
    );
  }

  #asked(query: Buffer, client: RemoteInfo): void {
    this.#ask(
      query,
      "udp",
      (bytes) => this.#udp.send(bytes, client.port, client.address),
      () => this.#forward(query, client),
    );
  }

  #ask(
    query: Buffer,
    transport: Transport,
    answer: (bytes: Buffer) => void,
    forward: () => void,
  ): void {
    const { names, held, counters } = this.#modules;
    const decide = (last: boolean): boolean => {
      const { scope } = this.sandbox;
      const said = reply(query, names, scope, transport);
      if (typeof said === "object") {
        counters.count(said.records > 0 ? "answered" : "nodata");
        answer(said.bytes);
      } else if (said === "unknown" && !last && !names.complete(scope)) return false;
      else forward();
      return true;
    };
    if (decide(false)) return;
    if (held.hold({ asker: this, scope: () => this.sandbox.scope, decide })) {
      counters.count("held");
      return;
    }
    counters.count("droppedHeld");
    decide(true);
  }

  #forward(query: Buffer, client: Client): void {
    const { counters } = this.#modules;
    if (!this.#bucket.take(performance.now())) counters.count("droppedFlood");
    else if (!this.sandbox.closed || !this.#relay(query, client)) this.#reinject(query, client);
  }

  #reinject(query: Buffer, client: Client): void {
    const sent = sendPacket(this.gate.sockets.raw, clientPacket(client, query));
    this.#modules.counters.count(sent ? "forwarded" : "droppedSend");
  }

  /** @returns false: too many wait already, or it cannot be asked. */
  #relay(query: Buffer, client: Client): boolean {
    const { counters } = this.#modules;
    if (this.#relays >= RELAYS || query.length < 4) {
      counters.count("droppedRelay");
      return false;
    }
    let fd: number;
    try {
      fd = inNetns(this.sandbox.path, () => openUpstream("udp"));
    } catch {
      counters.count("droppedRelay");
      return false;
    }
    this.#relays++;
    counters.count("relayed");
    sendBytes(fd, query);
    awaitAnswer(fd, query, (answer) => {
      this.#relays--;
      const said = closedAnswer(query, answer);
      if (said !== answer) counters.count("notThere");
      if (said !== undefined) this.#udp.send(said, client.port, client.address);
    });
    return true;
  }

  #openUpstream(): number | undefined {
    const { counters } = this.#modules;
    if (!this.#bucket.take(performance.now())) {
      counters.count("droppedFlood");
      return undefined;
    }
    try {
      return inNetns(this.sandbox.path, () => openUpstream("tcp"));
    } catch {
      counters.count("droppedSend");
      return undefined;
    }
  }
}
