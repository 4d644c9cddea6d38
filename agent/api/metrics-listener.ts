import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Failure } from "../../shared/errors.ts";
import { EXPOSITION_TYPE } from "../../shared/exposition.ts";
import type { Ip } from "../../shared/ip.ts";
import { endUnread } from "../../shared/node/unix-http.ts";
import type { Log } from "../../shared/ports.ts";

/** Where Prometheus asks, which takes no unix sockets. */
export interface MetricsAddress {
  readonly ip: Ip;
  readonly port: number;
}

/** For `status`. */
export interface MetricsStatus {
  /** `127.0.0.1:9948` */
  readonly address: string;
  /** Why nobody can ask there; tried again. */
  readonly failure: Failure | undefined;
}

export interface MetricsTimes {
  readonly retryMs: number;
}

const DEFAULT_TIMES: MetricsTimes = { retryMs: 5000 };

/** A few scrapers, each with the connection that it keeps. */
const MOST_CONNECTIONS = 16;
const HEAD_BYTES = 8192;
const REQUEST_MS = 5000;
/** Longer than most pauses between two scrapes. */
const IDLE_MS = 65_000;
const PATH = "/metrics";

/**
 * `GET /metrics` over TCP, where the operator opened it: it changes nothing, and answers nothing else. Whatever keeps it
 * from listening is said, and keeps the agent from nothing.
 */
export class MetricsListener {
  readonly #address: MetricsAddress;
  readonly #text: () => Promise<string>;
  readonly #log: Log;
  readonly #times: MetricsTimes;
  readonly #server: Server;
  #failure: Failure | undefined;
  #retry: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(
    address: MetricsAddress,
    text: () => Promise<string>,
    log: Log,
    times = DEFAULT_TIMES,
  ) {
    this.#address = address;
    this.#text = text;
    this.#log = log;
    this.#times = times;
    this.#server = createServer(
      {
        maxHeaderSize: HEAD_BYTES,
        requestTimeout: REQUEST_MS,
        headersTimeout: REQUEST_MS,
        keepAliveTimeout: IDLE_MS,
        connectionsCheckingInterval: REQUEST_MS,
        // Whatever the host is called by who asks.
        requireHostHeader: false,
      },
      (request, response) => void this.#answer(request, response),
    );
    this.#server.maxConnections = MOST_CONNECTIONS;
  }

  /** Returns at once: nothing waits for it. */
  start(): void {
    this.#server.on("listening", () => this.#went(undefined));
    this.#server.on("error", (error: NodeJS.ErrnoException) => {
      // Also of a connection that the kernel could not give (accept(2): no memory), while it listens.
      if (!this.#server.listening) this.#went(whyNot(this.status().address, error));
    });
    this.#listen();
  }

  status(): MetricsStatus {
    const { ip, port } = this.#address;
    const address = ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
    return { address, failure: this.#failure };
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #listen(): void {
    if (this.#stopped) return;
    const { ip, port } = this.#address;
    this.#server.listen({ host: ip, port });
  }

  #went(failure: Failure | undefined): void {
    const before = this.#failure?.message;
    this.#failure = failure;
    const { address } = this.status();
    if (failure === undefined) this.#log.info({ address }, "metrics can be asked for");
    else {
      if (failure.message !== before) this.#log.warn({ ...failure }, "no metrics over TCP");
      this.#retry = setTimeout(() => this.#listen(), this.#times.retryMs);
      this.#retry.unref();
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path] = (request.url ?? "").split("?", 1);
    if (path !== PATH) say(response, 404, `Only GET ${PATH} is here.\n`);
    else if (request.method !== "GET") {
      response.setHeader("allow", "GET");
      say(response, 405, `Only GET ${PATH} is here.\n`);
    } else
      try {
        say(response, 200, await this.#text(), EXPOSITION_TYPE);
      } catch (error) {
        this.#log.error({ err: error }, "metrics could not be put together");
        say(response, 500, "The agent cannot say: see its log.\n");
      }
    endUnread(request);
  }
}

function say(response: ServerResponse, status: number, text: string, type = "text/plain"): void {
  response.writeHead(status, { "content-type": type });
  response.end(text);
}

function whyNot(address: string, { code, message }: NodeJS.ErrnoException): Failure {
  if (code === "EADDRINUSE")
    return {
      code: "PORT_TAKEN",
      message: `TCP ${address}, where metrics shall be, is taken by another program`,
      next: "end that one (`ss -ltnp` names it), or set another port in OVERLAY_TS_METRICS; it is tried again",
    };
  return {
    code: "UNREACHABLE",
    message: `metrics cannot be at ${address}: ${message}`,
    next: "set an address of this host in OVERLAY_TS_METRICS; it is tried again",
  };
}
