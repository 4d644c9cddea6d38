import { request } from "node:http";
import { connect, type Socket } from "node:net";

export interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** A call as Docker makes it (moby pkg/plugins/client.go); bytes are sent as they are. */
export function callPlugin(
  socketPath: string,
  name: string,
  body?: unknown,
  { method = "POST", headers = {} }: { method?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const bytes = body === undefined || Buffer.isBuffer(body) ? body : encoded(body);
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath, method, path: `/${name}`, headers: { ...DOCKER_HEADERS, ...headers } },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as Answer["body"] });
        });
      },
    );
    call.on("error", reject);
    call.end(bytes);
  });
}

const DOCKER_HEADERS = {
  accept: "application/vnd.docker.plugins.v1.2+json",
  "user-agent": "Go-http-client/1.1",
  host: "plugin.moby.localhost",
};

/** Go's encoder ends with a line feed. */
function encoded(body: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(body)}\n`);
}

/**
 * Sends the bytes as they are, whatever the other end says meanwhile, and gives what came back when
 * the other end closed. With `endless`, that again and again until it closes.
 */
export function sendRaw(path: string, bytes: Buffer, endless?: Buffer): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = connect(path);
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    // Closed while we were still sending: what it had answered before counts.
    socket.on("error", () => {});
    socket.on("close", () => resolve(Buffer.concat(chunks).toString("latin1")));
    socket.write(bytes);
    if (endless === undefined) socket.end();
    else send(socket, endless);
  });
}

function send(socket: Socket, endless: Buffer): void {
  if (!socket.writable) return;
  if (socket.write(endless)) setImmediate(() => send(socket, endless));
  else socket.once("drain", () => send(socket, endless));
}
