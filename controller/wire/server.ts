import type { Connection, Stream } from "@libp2p/interface";
import { lpStream } from "@libp2p/utils";
import type { Libp2p } from "libp2p";
import { BOUNDS } from "../../shared/bounds.ts";
import { encodeCbor } from "../../shared/codec.ts";
import { asFailure, OverlayError } from "../../shared/errors.ts";
import { NodeId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import { portHolder } from "../../shared/node/port-holder.ts";
import type { Log } from "../../shared/ports.ts";
import { encodeVersions, VERSIONS_PROTOCOL, WIRE_VERSIONS } from "../../shared/wire-version.ts";
import type { Controller } from "../controller.ts";
import { answerRequest } from "./answer.ts";
import type { ControlAnswer } from "./messages.ts";
import { CONTROL_PROTOCOLS, controlNode, NEWS_PROTOCOLS, WATCH_PROTOCOLS } from "./libp2p-node.ts";

const REQUEST_TIMEOUT_MS = 10_000;
const MAX_STREAMS = 64;

export interface ControlServerOptions {
  /** The controller's own Ed25519 seed: its peer id is in the signed state. */
  readonly seed: Uint8Array;
  readonly address: Ip;
  readonly port: number;
}

/** The controller's port: joining, control, and a stream of new states for who watches. */
export class ControlServer {
  readonly #options: ControlServerOptions;
  readonly #controller: Controller;
  readonly #log: Log;
  #node: Libp2p | undefined;

  constructor(options: ControlServerOptions, controller: Controller, log: Log) {
    this.#options = options;
    this.#controller = controller;
    this.#log = log;
  }

  /** @throws PORT_TAKEN, or INTERNAL with the system's reason. */
  async start(): Promise<void> {
    const { seed, address, port } = this.#options;
    const family = address.includes(":") ? "ip6" : "ip4";
    try {
      this.#node = await controlNode(seed, [`/${family}/${address}/tcp/${port}`]);
    } catch (error) {
      throw listenError(error, address, port);
    }
    const options = { maxInboundStreams: MAX_STREAMS };
    const node = this.#node;
    await node.handle(CONTROL_PROTOCOLS, (stream, from) => this.#serve(stream, from), options);
    const controller = this.#controller;
    const news = (stream: Stream, from: Connection): Promise<void> =>
      this.#watch(stream, () => controller.news(peerOf(from)));
    await node.handle(NEWS_PROTOCOLS, news, options);
    // 0.1.0 is told each state whole.
    const whole = { v: 1, kind: "state", revision: 0 } as const;
    const states = (stream: Stream, from: Connection): Promise<void> =>
      this.#watch(stream, () => controller.handle(peerOf(from), whole));
    await node.handle(WATCH_PROTOCOLS, states, options);
    await node.handle(VERSIONS_PROTOCOL, (stream) => this.#tellVersions(stream), options);
  }

  async stop(): Promise<void> {
    await this.#node?.stop();
  }

  async #serve(stream: Stream, connection: Connection): Promise<void> {
    const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    try {
      const framed = lpStream(stream, { maxDataLength: BOUNDS.httpBodyBytes });
      const bytes = (await framed.read({ signal })).subarray();
      const from = peerOf(connection);
      const answer = await answerRequest(this.#controller, from, bytes, originOf(connection));
      await framed.write(answer, { signal });
      await stream.close({ signal });
    } catch (error) {
      this.#log.info(
        { err: error },
        "a request could not be read or answered; its connection was closed",
      );
      stream.abort(error as Error);
    }
  }

  /** To a host that speaks none of them. */
  async #tellVersions(stream: Stream): Promise<void> {
    const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    try {
      await lpStream(stream).write(encodeVersions(WIRE_VERSIONS), { signal });
      await stream.close({ signal });
    } catch (error) {
      stream.abort(error as Error);
    }
  }

  /** `answer` at once, then with each new state; only the newest waits for a slow reader. */
  async #watch(stream: Stream, answer: () => Promise<ControlAnswer>): Promise<void> {
    const framed = lpStream(stream, { maxDataLength: BOUNDS.controlAnswerBytes });
    let isTold = false;
    let wake = (): void => {};
    const closed = new AbortController();
    const stopListening = this.#controller.onState(() => {
      isTold = false;
      wake();
    });
    stream.addEventListener("close", () => {
      closed.abort();
      wake();
    });
    try {
      while (!closed.signal.aborted) {
        if (isTold) {
          await new Promise<void>((resolve) => (wake = resolve));
          continue;
        }
        isTold = true;
        // Asked each time: a host that was removed meanwhile is told nothing more.
        const next = await answer();
        await framed.write(encodeCbor(next));
        if (next.kind === "failed") return;
      }
    } catch (error) {
      this.#log.debug({ err: error }, "a host no longer watches the state");
    } finally {
      stopListening();
      await stream.close().catch(() => {});
    }
  }
}

function peerOf(connection: Connection): NodeId {
  return NodeId.parse(connection.remotePeer.toString());
}

/** Where its packets come from: after a NAT's address was put in, if there is one. */
function originOf({ remoteAddr }: Connection): Ip | undefined {
  const parsed = Ip.safeParse(remoteAddr.toString().split("/")[2]);
  return parsed.success ? parsed.data : undefined;
}

function listenError(error: unknown, address: Ip, port: number): OverlayError {
  const where = `${address}:${port}`;
  const text = asFailure(error).message;
  const taken = /EADDRINUSE|address already in use/i.test(text + String((error as Error).cause));
  return new OverlayError(
    {
      code: taken ? "PORT_TAKEN" : "INTERNAL",
      message: taken
        ? `the controller's port ${where}/tcp is taken by ${portHolder("tcp", port) ?? "another program"}`
        : `the controller cannot listen on ${where}/tcp: ${text}`,
      next: taken
        ? "end it (`ss -ltnp`), or choose another --controller-port"
        : "check the address with `ip address`",
    },
    { cause: error },
  );
}
