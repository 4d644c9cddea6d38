import { once } from "node:events";
import { request } from "node:http";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { MetricsListener } from "../../../agent/api/metrics-listener.ts";
import { Ip } from "../../../shared/ip.ts";
import { silentLog } from "../../../shared/ports.ts";
import { failOnCrashes } from "../../support/crashes.ts";

failOnCrashes();
const ip = Ip.parse("127.0.0.1");
const ending: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ending.splice(0)) await end();
});

/** A port that was free a moment ago, and the program that has it. */
async function taken(): Promise<{ port: number; server: Server }> {
  const server = createServer().listen(0, ip);
  await once(server, "listening");
  return { port: (server.address() as { port: number }).port, server };
}

const ended = (server: Server): Promise<unknown> => new Promise((resolve) => server.close(resolve));

async function listening(
  text: () => Promise<string> = () => Promise.resolve("up 1\n"),
): Promise<{ port: number; listener: MetricsListener }> {
  const { port, server } = await taken();
  await ended(server);
  const listener = new MetricsListener({ ip, port }, text, silentLog, { retryMs: 10 });
  listener.start();
  ending.push(() => listener.stop());
  await expect.poll(() => ask(port, "GET /metrics").catch(() => undefined)).toBeDefined();
  return { port, listener };
}

interface Answer {
  readonly status: number;
  readonly type: string | undefined;
  readonly text: string;
}

function ask(port: number, what: string, body = "", host = "anything.example"): Promise<Answer> {
  const [method, path] = what.split(" ");
  return new Promise((resolve, reject) => {
    const headers = { host, "content-length": Buffer.byteLength(body) };
    const asked = request({ host: ip, port, method, path, headers, agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          type: response.headers["content-type"],
          text,
        }),
      );
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

test("GET /metrics is answered, whatever the host is called by who asks", async () => {
  const { port, listener } = await listening();
  for (const path of ["/metrics", "/metrics?format=text"])
    expect(await ask(port, `GET ${path}`)).toEqual({
      status: 200,
      type: "text/plain; version=0.0.4; charset=utf-8",
      text: "up 1\n",
    });
  expect(listener.status()).toEqual({ address: `127.0.0.1:${port}`, failure: undefined });
});

test.each([
  ["POST /metrics", 405],
  ["DELETE /metrics", 405],
  ["GET /", 404],
  ["GET /metrics/", 404],
  ["GET /v1/status", 404],
  ["POST /v1/leave", 404],
  ["DELETE /v1/networks?name=app", 404],
])("%s is refused, and nothing is looked at for it", async (what, status) => {
  let looks = 0;
  const { port } = await listening(() => Promise.resolve(`${++looks}`));
  const before = looks;
  expect(await ask(port, what, "{}".repeat(100_000))).toMatchObject({ status });
  expect(looks).toBe(before);
});

test("an agent that cannot say so says no more than that", async () => {
  const secret = new Error("/var/lib/overlay-ts/agent/identity.key is gone");
  const { port } = await listening(() => Promise.reject(secret));
  const { status, text } = await ask(port, "GET /metrics");
  expect(status).toBe(500);
  expect(text).not.toContain("identity");
});

test("connections have a bound: the next one gets none, and one that ends makes room", async () => {
  const { port } = await listening();
  const open = (): Promise<Socket> =>
    new Promise((resolve) => {
      const socket: Socket = connect(port, ip, () => resolve(socket));
      socket.on("error", () => {});
      ending.push(() => socket.destroy());
    });
  const held = await Promise.all(Array.from({ length: 16 }, open));
  await expect.poll(() => ask(port, "GET /metrics").catch(() => "none")).toBe("none");
  held[0]!.destroy();
  await expect
    .poll(() =>
      ask(port, "GET /metrics").then(
        ({ status }) => status,
        () => 0,
      ),
    )
    .toBe(200);
});

test("a port that another program has is named, and taken when it is free", async () => {
  const { port, server } = await taken();
  const listener = new MetricsListener({ ip, port }, () => Promise.resolve("up 1\n"), silentLog, {
    retryMs: 10,
  });
  listener.start();
  ending.push(() => listener.stop());
  await expect.poll(() => listener.status().failure?.message).toMatch(`127.0.0.1:${port}`);
  expect(listener.status().failure).toMatchObject({ code: "PORT_TAKEN" });
  expect(listener.status().failure?.next).toMatch(/OVERLAY_TS_METRICS/);
  await ended(server);
  await expect.poll(() => listener.status().failure).toBeUndefined();
  await expect
    .poll(() =>
      ask(port, "GET /metrics").then(
        ({ text }) => text,
        () => "",
      ),
    )
    .toBe("up 1\n");
});

test("an address that this host does not have is said, too", async () => {
  const elsewhere = { ip: Ip.parse("192.0.2.7"), port: 9948 };
  const listener = new MetricsListener(elsewhere, () => Promise.resolve(""), silentLog);
  listener.start();
  ending.push(() => listener.stop());
  await expect.poll(() => listener.status().failure?.message).toMatch(/192\.0\.2\.7:9948/);
});
