import { createSocket, type RemoteInfo, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { canonicalName } from "../../../shared/dns-name.ts";
import type { NameTable } from "../../core/names/name-table.ts";
import { inNetns } from "../../kernel/netns.ts";
import { denial, nameAsked, reply, type Transport } from "./answer.ts";
import { Conversation } from "./conversation.ts";
import type { Counters } from "./counters.ts";
import type { Gate } from "./gate.ts";
import type { HeldQuestions } from "./held-questions.ts";
import type { Closed, Sandbox } from "./port.ts";
import { type Client, clientPacket } from "./reinjection.ts";
import { awaitAnswer, closedAnswer } from "./relay.ts";
import { duplicate, openUpstream, receiveState, sendBytes, sendPacket } from "./sockets.ts";
import { TokenBucket } from "../../../shared/token-bucket.ts";

/** What one container may have forwarded: about what Docker's own resolver does of external names. */
const FORWARDED_PER_SECOND = 5000;
const FORWARDED_BURST = 2000;
const RELAYS = 64;
const CONNECTIONS = 64;
/** Of all sandboxes together: connections that are accepted have low descriptors. */
const ALL_CONNECTIONS = 400;
/** Some milliseconds, unless the machine is overloaded. */
const DRAIN_MS = 2000;

export interface ServingModules {
  readonly names: NameTable;
  readonly held: HeldQuestions;
  readonly counters: Counters;
  /** Of all sandboxes. */
  readonly conversations: Set<Conversation>;
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
  #closed = false;

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
      if (modules.conversations.size >= ALL_CONNECTIONS) {
        counters.count("droppedTcpConnections");
        socket.destroy();
        return;
      }
      counters.count("tcpConnections");
      const conversation = new Conversation(socket, {
        counters,
        ask: (query, answer, forward) => this.#ask(query, "tcp", answer, forward),
        openUpstream: () => this.#openUpstream(),
        closed: () => this.sandbox.closed !== undefined,
      });
      const all = [this.#conversations, modules.conversations];
      for (const set of all) set.add(conversation);
      socket.on("close", () => {
        for (const set of all) set.delete(conversation);
      });
    });
    this.#tcp.maxConnections = CONNECTIONS;
    this.#tcp.on("drop", () => counters.count("droppedTcpConnections"));
    this.#tcp.on("error", () => counters.count("droppedTcpConnections"));
    this.#tcp.listen({ fd: duplicate(gate.sockets.tcp) });
  }

  /** Resolves when what was asked before is answered, or handed on. At most 2 s. */
  async drain(atLeastMs: number): Promise<void> {
    this.#modules.held.decideNow(this);
    const untilMs = performance.now() + DRAIN_MS;
    await delay(atLeastMs);
    while (performance.now() < untilMs && !this.#quiet()) await delay(1);
  }

  close(): void {
    this.#modules.held.decideNow(this);
    this.#closed = true;
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
      (bytes) => this.#answer(bytes, client),
      () => this.#forward(query, client),
    );
  }

  #ask(
    query: Buffer,
    transport: Transport,
    answer: (bytes: Buffer | undefined) => void,
    forward: () => void,
  ): void {
    const { names, held, counters } = this.#modules;
    const decide = (last: boolean): boolean => {
      const { scope } = this.sandbox;
      const said = reply(query, names, scope, transport, !last);
      if (typeof said === "object") {
        counters.count(said.records > 0 ? "answered" : "nodata");
        answer(said.bytes);
        return true;
      }
      if (said === "unknown") return false;
      const { closed } = this.sandbox;
      if (closed === undefined || mayAskDocker(closed, query)) forward();
      else if (closed.others === undefined && !last) return false;
      else {
        counters.count("notThere");
        answer(denial(query));
      }
      return true;
    };
    if (decide(false)) return;
    if (
      held.hold({
        asker: this,
        networks: () => this.sandbox.scope.map(({ network }) => network),
        decide,
      })
    ) {
      counters.count("held");
      return;
    }
    counters.count("droppedHeld");
    decide(true);
  }

  /** Answers that come after the end are dropped. */
  #answer(bytes: Buffer | undefined, { port, address }: Client): void {
    if (!this.#closed && bytes !== undefined) this.#udp.send(bytes, port, address);
  }

  #forward(query: Buffer, client: Client): void {
    const { counters } = this.#modules;
    if (!this.#bucket.take(performance.now())) counters.count("droppedFlood");
    else if (this.sandbox.closed === undefined || !this.#relay(query, client))
      this.#reinject(query, client);
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
      if (said !== undefined) this.#answer(said, client);
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

/**
 * Whether Docker's resolver is asked on behalf of who has no way out. Its own names are single labels, or
 * end with the name of the network; what is neither it would ask others for.
 */
function mayAskDocker({ resolvers, others = [] }: Closed, query: Buffer): boolean {
  if (resolvers) return true;
  const name = others.length === 0 ? undefined : nameAsked(query);
  if (name === undefined) return false;
  return (
    !name.includes(".") || others.some((network) => name.endsWith(`.${canonicalName(network)}`))
  );
}
