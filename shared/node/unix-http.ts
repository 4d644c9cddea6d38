import { chmodSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { once } from "node:events";
import {
  createServer,
  type IncomingMessage,
  request as httpRequest,
  type Server,
  type ServerResponse,
} from "node:http";
import { connect } from "node:net";
import { basename, dirname } from "node:path";
import { BOUNDS } from "../bounds.ts";
import { asFailure, type ErrorCode, type Failure, OverlayError } from "../errors.ts";
import { oneLine } from "../text.ts";
import { permissionDenied } from "./permission.ts";

/** JSON over HTTP on a unix socket that only root opens: the local interface of agent and controller. */

/**
 * By `METHOD /path`; gets the query, the parsed body and a signal that aborts when who asked hangs up;
 * returns what is answered as JSON, or `Lines`, or `PlainText`.
 */
export type Routes = Readonly<
  Record<string, (query: URLSearchParams, body: unknown, signal: AbortSignal) => Promise<unknown>>
>;

/**
 * An answer in parts: each value is a line of JSON, sent when it comes. No more of them is taken than
 * the asker reads, so what waits must be bounded by who gives them. A failure is the last line:
 * `{"failure": …}`, as of any other answer.
 */
export class Lines {
  readonly values: AsyncIterable<unknown>;

  constructor(values: AsyncIterable<unknown>) {
    this.values = values;
  }
}

/** An answer that is no JSON. */
export class PlainText {
  readonly type: string;
  readonly text: string;

  constructor(type: string, text: string) {
    this.type = type;
    this.text = text;
  }
}

/** Lists of a full cluster. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/** No line that we write is nearly as long. */
const MAX_LINE_CHARS = 16 * 1024 * 1024;

/** Longer than anything that a command waits for, but for its own reasons: who serves it hangs. */
const ANSWER_MS = 60_000;

/** What is still on its way on a local socket is there long before. */
const UNREAD_MS = 500;

const JSON_TYPE = "application/json";

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
      const gone = new AbortController();
      response.once("close", () => gone.abort());
      void answer(routes, request, gone.signal).then(({ status, text, type = JSON_TYPE }) => {
        response.writeHead(status, { "content-type": type });
        if (text instanceof Lines) void sendLines(response, text, gone.signal);
        else response.end(text);
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
    // Also later, of a connection that the kernel could not give (accept(2): no memory): who asked asks again.
    server.on("error", reject).once("listening", resolve);
    listen();
  });
}

/**
 * @throws NotServed when nobody serves the socket, NOT_ROOT, TIMEOUT when who serves it does not answer, or
 * the server's own failure.
 */
export async function callUnix<T>(
  path: string,
  method: "GET" | "POST" | "DELETE",
  url: string,
  body?: unknown,
  timeoutMs = ANSWER_MS,
): Promise<T> {
  const { status, text } = await exchange(path, method, url, body, timeoutMs);
  const parsed = parseAnswer(text);
  if (status < 300 && parsed !== undefined) return parsed as T;
  throw refusal(path, status, parsed);
}

/** An answer that is `PlainText`. @throws as `callUnix` */
export async function textUnix(path: string, url: string, timeoutMs = ANSWER_MS): Promise<string> {
  const { status, text } = await exchange(path, "GET", url, undefined, timeoutMs);
  if (status < 300) return text;
  throw refusal(path, status, parseAnswer(text));
}

/**
 * The lines of an answer in parts, as they come. @throws as `callUnix`; UNREACHABLE when it breaks off,
 * and the failure that the answer ends with.
 */
export async function* linesUnix<T>(path: string, url: string): AsyncGenerator<T> {
  const response = await open(path, "GET", url, undefined, ANSWER_MS);
  if (response.statusCode !== 200) {
    const text = (await readAll(response, MAX_ANSWER_BYTES)).toString();
    throw refusal(path, response.statusCode ?? 500, parseAnswer(text));
  }
  let rest = "";
  try {
    response.setEncoding("utf8");
    for await (const part of response as AsyncIterable<string>) {
      const lines = (rest + part).split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > MAX_LINE_CHARS) throw refusal(path, 200, undefined);
      for (const line of lines) {
        const value = parseAnswer(line) as { failure?: Failure } | undefined;
        if (value === undefined || value.failure !== undefined) throw refusal(path, 200, value);
        yield value as T;
      }
    }
  } catch (cause) {
    if (cause instanceof OverlayError) throw cause;
    throw new OverlayError(
      {
        code: "UNREACHABLE",
        message: `what serves ${path} ended in the middle of its answer`,
        next: "when it runs again, run the command again",
      },
      { cause },
    );
  }
}

function refusal(path: string, status: number, parsed: unknown): OverlayError {
  return new OverlayError(
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

async function exchange(
  path: string,
  method: string,
  url: string,
  body: unknown,
  timeoutMs: number,
): Promise<{ status: number; text: string }> {
  const response = await open(path, method, url, body, timeoutMs);
  const bytes = await readAll(response, MAX_ANSWER_BYTES);
  return { status: response.statusCode ?? 500, text: bytes.toString() };
}

/** @throws UNREACHABLE, NOT_ROOT, TIMEOUT */
function open(
  path: string,
  method: string,
  url: string,
  body: unknown,
  timeoutMs: number,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    // A connection that is kept may be ended by the server just when the next call is written to it.
    const request = httpRequest({ socketPath: path, method, path: url, agent: false });
    const timer = setTimeout(() => {
      reject(noAnswer(path, timeoutMs));
      request.destroy();
    }, timeoutMs);
    request.on("response", (response) => {
      clearTimeout(timer);
      resolve(response);
    });
    request.on("error", (cause) => {
      clearTimeout(timer);
      reject(notServed(path, cause));
    });
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

function notServed(path: string, cause: NodeJS.ErrnoException): OverlayError {
  // The socket is root's, and so is its directory with some umasks.
  if (cause.code === "EACCES" || cause.code === "EPERM")
    return permissionDenied(`${path} is open to root alone`, cause);
  return new NotServed(
    {
      code: "UNREACHABLE",
      message: `nobody answers on ${path}`,
      next: `start the service: \`systemctl start ${unitOf(path)}\``,
    },
    { cause },
  );
}

/** Nobody answers on the socket. Who answers may say UNREACHABLE too, of somebody else. */
export class NotServed extends OverlayError {}

function noAnswer(path: string, timeoutMs: number): OverlayError {
  return new OverlayError({
    code: "TIMEOUT",
    message: `what serves ${path} has not answered for ${Math.round(timeoutMs / 1000)} s`,
    next: `it may be busy, then ask again; if it hangs, \`systemctl restart ${unitOf(path)}\``,
  });
}

/** Sockets are called as the service is. */
function unitOf(path: string): string {
  return `overlay-ts-${basename(path, ".sock")}`;
}

async function answer(
  routes: Routes,
  request: IncomingMessage,
  signal: AbortSignal,
): Promise<{ status: number; text: string | Lines; type?: string }> {
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
    const answered = (await route(new URLSearchParams(query), body, signal)) ?? {};
    if (answered instanceof Lines) return { status: 200, text: answered };
    if (answered instanceof PlainText)
      return { status: 200, type: answered.type, text: answered.text };
    return { status: 200, text: `${JSON.stringify(answered)}\n` };
  } catch (error) {
    const failure = asFailure(error);
    return { status: STATUS[failure.code] ?? 500, text: `${JSON.stringify({ failure })}\n` };
  }
}

async function sendLines(
  response: ServerResponse,
  { values }: Lines,
  signal: AbortSignal,
): Promise<void> {
  // That it is heard is known before the first line comes.
  response.flushHeaders();
  try {
    for await (const value of values)
      if (!response.write(`${JSON.stringify(value)}\n`)) await once(response, "drain", { signal });
    response.end();
  } catch (error) {
    if (!signal.aborted) response.end(`${JSON.stringify({ failure: asFailure(error) })}\n`);
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
