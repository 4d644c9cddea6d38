import { chmodSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, request as httpRequest, type Server } from "node:http";
import { connect } from "node:net";
import { dirname } from "node:path";
import { BOUNDS } from "../bounds.ts";
import { asFailure, type ErrorCode, type Failure, OverlayError } from "../errors.ts";
import { oneLine } from "../text.ts";

/** JSON over HTTP on a unix socket that only root opens: the local interface of agent and controller. */

/** By `METHOD /path`; gets the query and the parsed body, returns what is answered as JSON. */
export type Routes = Readonly<
  Record<string, (query: URLSearchParams, body: unknown) => Promise<unknown>>
>;

/** Lists of a full cluster. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/** What is still on its way on a local socket is there long before. */
const UNREAD_MS = 500;

const STATUS: Partial<Record<ErrorCode, number>> = {
  INVALID: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  CONFLICT: 409,
  NOT_JOINED: 409,
  TOO_LARGE: 413,
  UNREACHABLE: 502,
  TIMEOUT: 504,
};

export class UnixHttpServer {
  readonly #path: string;
  readonly #server: Server;

  constructor(path: string, routes: Routes) {
    this.#path = path;
    this.#server = createServer((request, response) => {
      void answer(routes, request).then(({ status, text }) => {
        response.writeHead(status, { "content-type": "application/json" });
        response.end(text);
        endUnread(request);
      });
    });
  }

  /** @throws PORT_TAKEN when another process answers there; a dead one's socket is replaced. */
  start(): Promise<void> {
    return listenUnix(this.#server, this.#path);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** A path, or a socket that somebody listens on for us: it stays when we end. */
export type UnixAddress = string | { readonly fd: number };

/**
 * Mode 0600. A dead process's socket is replaced. @throws PORT_TAKEN when somebody answers there.
 */
export async function listenUnix(server: Server, address: UnixAddress): Promise<void> {
  if (typeof address !== "string") return listening(server, () => server.listen(address));
  await makeWay(address);
  await listening(server, () => server.listen(address));
  chmodSync(address, 0o600);
}

async function makeWay(path: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o711 });
  if (existsSync(path)) {
    if (await answers(path))
      throw new OverlayError({
        code: "PORT_TAKEN",
        message: `another process serves ${path}`,
        next: "is overlay-ts running already? See `systemctl status overlay-ts-agent overlay-ts-controller`",
      });
    rmSync(path);
  }
}

function listening(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject).once("listening", resolve);
    listen();
  });
}

/** @throws UNREACHABLE when nobody serves the socket, or the server's own failure. */
export async function callUnix<T>(
  path: string,
  method: "GET" | "POST" | "DELETE",
  url: string,
  body?: unknown,
): Promise<T> {
  const { status, text } = await exchange(path, method, url, body);
  const parsed = parseAnswer(text);
  if (status < 300 && parsed !== undefined) return parsed as T;
  throw new OverlayError(
    (parsed as { failure?: Failure } | undefined)?.failure ?? {
      code: "INTERNAL",
      message: `what serves ${path} answered ${status}, in no words of overlay-ts`,
      next: "run the same version of the command and of the service",
    },
  );
}

function parseAnswer(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function exchange(
  path: string,
  method: string,
  url: string,
  body: unknown,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ socketPath: path, method, path: url }, (response) => {
      readAll(response, MAX_ANSWER_BYTES).then(
        (bytes) => resolve({ status: response.statusCode ?? 500, text: bytes.toString() }),
        reject,
      );
    });
    request.on("error", (cause) =>
      reject(
        new OverlayError(
          {
            code: "UNREACHABLE",
            message: `nobody answers on ${path}`,
            next: "start the service: `systemctl start overlay-ts-agent` (or overlay-ts-controller)",
          },
          { cause },
        ),
      ),
    );
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function answer(
  routes: Routes,
  request: IncomingMessage,
): Promise<{ status: number; text: string }> {
  try {
    const [path = "", query = ""] = (request.url ?? "").split("?", 2);
    const name = `${request.method ?? ""} ${path}`;
    const route = Object.hasOwn(routes, name) ? routes[name] : undefined;
    if (route === undefined)
      throw new OverlayError({
        code: "NOT_FOUND",
        message: `no ${oneLine(name, 128)} here`,
        next: "run the same version of the command and of the service",
      });
    const body = await readJson(request, BOUNDS.httpBodyBytes);
    const answered = (await route(new URLSearchParams(query), body)) ?? {};
    return { status: 200, text: `${JSON.stringify(answered)}\n` };
  } catch (error) {
    const failure = asFailure(error);
    return { status: STATUS[failure.code] ?? 500, text: `${JSON.stringify({ failure })}\n` };
  }
}

/** @throws TOO_LARGE, and the connection is gone then. */
export function readAll(message: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return collect(message as AsyncIterable<Buffer>, maxBytes);
}

/**
 * A request's body; undefined: an empty one. @throws TOO_LARGE, INVALID when it is no JSON. The
 * connection stays open, so that the asker can be told.
 */
export async function readJson(request: IncomingMessage, maxBytes: number): Promise<unknown> {
  const parts = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  const bytes = await collect(parts, maxBytes);
  if (bytes.length === 0) return undefined;
  try {
    return JSON.parse(bytes.toString());
  } catch (cause) {
    throw new OverlayError(
      {
        code: "INVALID",
        message: `the body is not JSON: ${asFailure(cause).message}`,
        next: "send one JSON object",
      },
      { cause },
    );
  }
}

/**
 * After an answer that came before the request's end: who still sends must be able to read it, and
 * only then does the connection go. A request that never ends is not waited for.
 */
export function endUnread(request: IncomingMessage): void {
  if (request.complete) return;
  request.resume();
  const timer = setTimeout(() => request.socket.destroy(), UNREAD_MS);
  const done = (): void => clearTimeout(timer);
  request.once("end", done).once("close", done);
}

async function collect(parts: AsyncIterable<Buffer>, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of parts) {
    length += chunk.length;
    if (length > maxBytes)
      throw new OverlayError({
        code: "TOO_LARGE",
        message: `the message has more than ${maxBytes} bytes`,
        next: "give shorter or fewer options",
      });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
