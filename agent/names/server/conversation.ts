import { Socket } from "node:net";
import type { Counters } from "./counters.ts";
import { framed, Unframer } from "./framing.ts";
import { closedAnswer, RELAY_MS } from "./relay.ts";

/** RFC 7766, 6.2.3: a few seconds. */
const IDLE_MS = 10_000;
const UNANSWERED = 64;
const UNREAD_BYTES = 256 * 1024;

/** What a conversation needs of its sandbox. */
export interface ConversationModules {
  readonly counters: Counters;
  /** Answers now, or later, or has it forwarded; exactly one of the two. */
  readonly ask: (
    query: Buffer,
    answer: (bytes: Buffer | undefined) => void,
    forward: () => void,
  ) => void;
  /** A descriptor that connects to Docker's resolver; undefined: not now. */
  readonly openUpstream: () => number | undefined;
  readonly closed: () => boolean;
}

/**
 * One client's TCP connection: several questions, answered as the answers come (RFC 7766, 6.2.1.1).
 * What is not ours goes over one connection to Docker's resolver, and ends with it.
 */
export class Conversation {
  readonly #client: Socket;
  readonly #modules: ConversationModules;
  #upstream: Socket | undefined;
  /** Asked of Docker and not answered, on closed networks: by the query's id. */
  readonly #awaited = new Map<number, { query: Buffer; timer: NodeJS.Timeout }>();
  #unanswered = 0;
  #clientEnded = false;

  constructor(client: Socket, modules: ConversationModules) {
    this.#client = client;
    this.#modules = modules;
    const unframer = new Unframer();
    client.setTimeout(IDLE_MS, () => client.destroy());
    client.on("data", (chunk) => {
      for (const query of unframer.push(chunk)) this.#asked(query);
    });
    client.on("end", () => {
      this.#clientEnded = true;
      this.#endIfDone();
    });
    client.on("error", () => {});
    client.on("close", () => this.#close());
  }

  /** Nothing is left unanswered. */
  get quiet(): boolean {
    return this.#unanswered === 0;
  }

  end(): void {
    this.#client.destroy();
  }

  #asked(query: Buffer): void {
    if (this.#client.destroyed) return;
    if (this.#unanswered >= UNANSWERED || this.#client.writableLength > UNREAD_BYTES) {
      this.#modules.counters.count("droppedTcpQuestions");
      this.#client.destroy();
      return;
    }
    this.#unanswered++;
    this.#modules.ask(
      query,
      (bytes) => this.#answer(bytes),
      () => this.#forward(query),
    );
  }

  /** Undefined: nothing can be said. */
  #answer(bytes: Buffer | undefined): void {
    this.#unanswered--;
    if (!this.#client.destroyed && bytes !== undefined) this.#client.write(framed(bytes));
    this.#endIfDone();
  }

  #forward(query: Buffer): void {
    if (this.#client.destroyed) return;
    this.#upstream ??= this.#connect();
    if (this.#upstream === undefined) {
      this.#client.destroy();
      return;
    }
    this.#upstream.write(framed(query));
    this.#modules.counters.count("forwardedTcp");
    if (!this.#modules.closed() || query.length < 2) return;
    const id = query.readUInt16BE(0);
    const timer = setTimeout(() => setImmediate(() => this.#notThere(id)), RELAY_MS);
    clearTimeout(this.#awaited.get(id)?.timer);
    this.#awaited.set(id, { query, timer });
  }

  #connect(): Socket | undefined {
    const fd = this.#modules.openUpstream();
    if (fd === undefined) return undefined;
    const upstream = new Socket({ fd, readable: true, writable: true });
    const unframer = new Unframer();
    upstream.on("data", (chunk) => {
      for (const answer of unframer.push(chunk)) this.#heard(answer);
    });
    upstream.on("error", () => {});
    upstream.on("close", () => this.#upstreamClosed(upstream));
    return upstream;
  }

  #heard(answer: Buffer): void {
    if (!this.#modules.closed()) {
      this.#answer(answer);
      return;
    }
    const id = answer.length < 4 ? -1 : answer.readUInt16BE(0);
    const awaited = this.#awaited.get(id);
    // Came after it was said to be no name.
    if (awaited === undefined) return;
    clearTimeout(awaited.timer);
    this.#awaited.delete(id);
    const said = closedAnswer(awaited.query, answer) ?? answer;
    if (said !== answer) this.#modules.counters.count("notThere");
    this.#answer(said);
  }

  #notThere(id: number): void {
    const awaited = this.#awaited.get(id);
    if (awaited === undefined) return;
    clearTimeout(awaited.timer);
    this.#awaited.delete(id);
    const said = closedAnswer(awaited.query, undefined);
    if (said === undefined) {
      this.#client.destroy();
      return;
    }
    this.#modules.counters.count("notThere");
    this.#answer(said);
  }

  /** Docker ends an idle connection too: then the next question has a new one. */
  #upstreamClosed(upstream: Socket): void {
    if (this.#upstream !== upstream) return;
    this.#upstream = undefined;
    for (const id of this.#awaited.keys()) this.#notThere(id);
    if (this.#unanswered > 0) this.#client.destroy();
  }

  #endIfDone(): void {
    if (this.#clientEnded && this.#unanswered === 0) this.#client.end();
  }

  #close(): void {
    for (const { timer } of this.#awaited.values()) clearTimeout(timer);
    this.#awaited.clear();
    const upstream = this.#upstream;
    this.#upstream = undefined;
    upstream?.destroy();
  }
}
