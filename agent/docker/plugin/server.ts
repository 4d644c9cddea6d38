import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from "node:http";
import type { Duplex } from "node:stream";
import { BOUNDS } from "../../../shared/bounds.ts";
import { asFailure, type Failure, OverlayError } from "../../../shared/errors.ts";
import { HttpDrain } from "../../../shared/node/http-drain.ts";
import {
  endUnread,
  listenUnix,
  readJson,
  type UnixAddress,
} from "../../../shared/node/unix-http.ts";
import type { Log } from "../../../shared/ports.ts";
import { oneLine } from "../../../shared/text.ts";
import { withinDeadline } from "./deadline.ts";
import { type Call, pluginCalls } from "./calls.ts";
import { PluginCounters, type PluginCounts } from "./counters.ts";
import type { NetworkDriver } from "./port.ts";
import type { IpamDriver } from "../../networks/ipam-port.ts";

/** dockerd has no time limit of its own: a call that hangs would hang it. */
export const CALL_TIMEOUT_MS = 25_000;
/**
 * Docker's connections end when Docker ends them. One that we close while a call is on its way is a
 * call that Docker repeats without its body (moby pkg/plugins, callWithRetry), and that is refused.
 */
const KEPT_OPEN = { keepAliveTimeout: 0, headersTimeout: 0, requestTimeout: 0 };
const CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json";
/** A terminal shows the text: it names what is wrong, it does not repeat all of it. */
const MAX_ERROR_CHARS = 600;

export interface PluginModules {
  readonly network: NetworkDriver;
  readonly ipam: IpamDriver;
  readonly log: Log;
  /** How long a call that comes now may take. */
  readonly timeoutMs?: () => number;
}

interface Answer {
  readonly status: number;
  readonly body: object;
}

/** Docker's v1 plugin protocol on a unix socket: HTTP POST, JSON both ways. */
export class PluginServer {
  readonly #address: UnixAddress;
  readonly #log: Log;
  readonly #calls: Readonly<Record<string, Call>>;
  readonly #timeoutMs: () => number;
  readonly #counters = new PluginCounters(Date.now);
  readonly #server: Server;
  readonly #drain: HttpDrain;

  constructor(address: UnixAddress, { network, ipam, log, timeoutMs }: PluginModules) {
    this.#address = address;
    this.#log = log;
    this.#calls = pluginCalls(network, ipam);
    this.#timeoutMs = timeoutMs ?? (() => CALL_TIMEOUT_MS);
    this.#server = createServer(
      KEPT_OPEN,
      (request, response) => void this.#serve(request, response),
    );
    this.#server.on("clientError", (error, socket) => this.#garbage(error, socket));
    this.#drain = new HttpDrain(this.#server);
  }

  /** @throws PORT_TAKEN */
  start(): Promise<void> {
    return listenUnix(this.#server, this.#address);
  }

  /** Calls under way are answered first. */
  stop(): Promise<void> {
    return this.#drain.end();
  }

  counts(): PluginCounts {
    return this.#counters.counts();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, body } = await this.#answer(request, response);
    response.writeHead(status, { "content-type": CONTENT_TYPE });
    response.end(JSON.stringify(body));
    endUnread(request);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<Answer> {
    const name = (request.url ?? "").slice(1);
    const call = Object.hasOwn(this.#calls, name) ? this.#calls[name] : undefined;
    if (call === undefined) {
      const failure = saidOf(unknownCall(name));
      this.#counters.unknown("names", failure);
      // Docker takes 404 as: this call is not supported (moby pkg/plugins, IsNotFound).
      return failed(failure, 404);
    }
    if (request.method !== "POST") {
      const failure = saidOf(notPost(name, request.method ?? ""));
      this.#counters.unknown("methods", failure);
      return failed(failure, 405);
    }
    this.#counters.count(name, "asked");
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const begunMs = performance.now();
    try {
      const body = await withinDeadline(
        {
          name,
          timeoutMs: this.#timeoutMs(),
          gone: gone.signal,
          late: () => this.#counters.count(name, "late"),
        },
        async (signal) => {
          // Activate and the Get calls have an empty body.
          const read = await readJson(request, BOUNDS.httpBodyBytes);
          signal.throwIfAborted();
          return call(read === undefined ? {} : read, {
            signal,
            decoded: () => this.#counters.count(name, "decoded"),
          });
        },
      );
      const ms = performance.now() - begunMs;
      this.#counters.took(name, ms);
      this.#log.debug({ name, ms: Math.round(ms) }, "plugin call");
      return { status: 200, body: body as object };
    } catch (error) {
      const failure = saidOf(error);
      const { code } = failure;
      this.#counters.refused(name, failure);
      this.#log.warn({ name, code, err: error }, "a call of Docker's was refused");
      return failed(failure, code === "TOO_LARGE" ? 413 : 500);
    }
  }

  /** Not HTTP, or a head of too many bytes. */
  #garbage(error: NodeJS.ErrnoException, socket: Duplex): void {
    const failure = saidOf(notHttp(error.code ?? ""));
    this.#counters.unknown("garbage", failure);
    if (!socket.writable || error.code === "ECONNRESET") {
      socket.destroy();
      return;
    }
    const status = error.code === "HPE_HEADER_OVERFLOW" ? 431 : 400;
    const body = JSON.stringify(failed(failure).body);
    const head = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      `content-type: ${CONTENT_TYPE}`,
      `content-length: ${Buffer.byteLength(body)}`,
      "connection: close",
    ];
    socket.end(`${head.join("\r\n")}\r\n\r\n${body}`, () => socket.destroy());
  }
}

/** What Docker is told, and `status` shows. */
function saidOf(error: unknown): Failure {
  const failure = asFailure(error);
  const { message, next = "see the agent's log: `journalctl -u overlay-ts-agent`" } = failure;
  return { ...failure, message: oneLine(message, MAX_ERROR_CHARS), next };
}

/**
 * Network calls read Err, IPAM calls Error (moby libnetwork/drivers/remote, ipams/remote): in both,
 * with a status that is none of success.
 */
function failed({ message, next }: Failure, status = 500): Answer {
  const text = `${message} (${next})`;
  return { status, body: { Err: text, Error: text } };
}

function unknownCall(name: string): OverlayError {
  return new OverlayError({
    code: "UNSUPPORTED",
    message: `overlay-ts has no call ${oneLine(name, 64)}`,
    next: "it serves Docker's v1 network and IPAM plugin calls",
  });
}

function notPost(name: string, method: string): OverlayError {
  return new OverlayError({
    code: "INVALID",
    message: `${name} is called by POST, not ${method}`,
    next: "this socket is Docker's; use `overlay-ts` on the command line",
  });
}

function notHttp(code: string): OverlayError {
  return new OverlayError({
    code: "INVALID",
    message: `what came on the plugin's socket is no HTTP request (${code})`,
    next: "this socket is Docker's; use `overlay-ts` on the command line",
  });
}
