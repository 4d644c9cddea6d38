import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { localRoutes } from "../../agent/api/routes.ts";
import { DEFAULT_EVENT_LOG_OPTIONS } from "../../agent/events/event-log.ts";
import { adminRoutes } from "../../controller/admin-api.ts";
import { UnixHttpServer } from "../../shared/node/unix-http.ts";
import { failOnCrashes } from "../support/crashes.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../support/fake-host.ts";
import { sendRaw } from "../support/plugin-client.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-local-"));
const sockets = { agent: join(directory, "agent.sock"), controller: join(directory, "c.sock") };
let cluster: FakeCluster;
let host: FakeHost;
let servers: UnixHttpServer[];

beforeAll(async () => {
  cluster = await fakeCluster(1, directory);
  [host] = cluster.hosts as [FakeHost];
  const routes = localRoutes(
    () => host.agent,
    () => ({ state: "member" }),
    () => host.plugin.counts(),
  );
  servers = [
    new UnixHttpServer(sockets.agent, routes),
    new UnixHttpServer(
      sockets.controller,
      adminRoutes(cluster.controller, async () => {}),
    ),
  ];
  for (const server of servers) await server.start();
});

afterAll(async () => {
  for (const server of servers) await server.stop();
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
});

interface Told {
  readonly status: number;
  readonly body: { readonly failure?: { code: string; message: string; next?: string } };
}

function ask(socketPath: string, what: string, body?: string): Promise<Told> {
  const [method, path] = what.split(" ");
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
    const asked = request({ socketPath, method, path, headers }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as Told["body"] }),
      );
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

/** Refused with cause and next step; neither this host nor the controller has changed. */
async function refused(
  socket: string,
  what: string,
  body: string | undefined,
  reason: RegExp,
  status = 400,
): Promise<void> {
  const before = await host.tables();
  const told = await ask(socket, what, body);
  expect({ what, ...told }).toMatchObject({ what, status });
  expect(told.body.failure?.message).toMatch(reason);
  expect(told.body.failure?.next).toMatch(/./);
  expect(await host.tables()).toBe(before);
}

const AGENT = [
  "GET /v1/status",
  "POST /v1/probe",
  "GET /v1/verify",
  "GET /v1/nodes",
  "GET /v1/networks",
  "GET /v1/names",
];

describe("the agent's socket", () => {
  test.each(AGENT)("%s takes nothing", async (what) => {
    expect((await ask(sockets.agent, what)).status).toBe(200);
    await refused(sockets.agent, `${what}?verbose=1`, undefined, /knows the key verbose/);
    await refused(sockets.agent, what, "{}", /takes no body/);
  });

  test("a query's key that nobody knows is named", async () => {
    const known = /knows the key netwrok/;
    await refused(sockets.agent, "GET /v1/endpoints?netwrok=app", undefined, known);
    const rm = "DELETE /v1/networks?name=app&force=1";
    await refused(sockets.agent, rm, undefined, /knows the key force/);
    const twice = "DELETE /v1/networks?name=app&name=web";
    await refused(sockets.agent, twice, undefined, /name is given 2 times/);
    await refused(sockets.agent, "DELETE /v1/networks", undefined, /no network/, 404);
  });

  test.each<[string, RegExp, number?]>([
    ["names?net=app", /knows the key net/],
    ["names?network=app&network=web", /network is given 2 times/],
    ["names?network=nothing", /no network nothing/, 404],
    ["names?network=", /no network/, 404],
    ["networks/inspect", /no network/, 404],
    ["networks/inspect?name=nothing", /no network nothing/, 404],
    ["networks/inspect?nam=app", /knows the key nam/],
    ["state?after=newest", /after=newest is no revision/],
    ["state?after=", /after= is no revision/],
    ["events?since=10m", /knows the key since/],
    ["events?sinceMs=10m", /sinceMs=10m is no number of milliseconds/],
    ["events?sinceMs=-1", /sinceMs=-1 is no number/],
    ["events?sinceMs=", /sinceMs= is no number/],
    ["events?follow=yes", /follow=yes is neither true nor false/],
    ["events?follow=true&follow=true", /follow is given 2 times/],
    ["events?network=nothing", /no network nothing/, 404],
    ["events?follow=true&network=nothing", /no network nothing/, 404],
  ])("GET /v1/%s is refused", async (path, reason, status = 400) => {
    await refused(sockets.agent, `GET /v1/${path}`, undefined, reason, status);
    expect(host.agent.events.counters()["followers"]).toBe(0);
  });

  test("so many follow and no more; a body is refused", async () => {
    await refused(sockets.agent, "GET /v1/events?follow=true", "{}", /takes no body/);
    const signal = new AbortController();
    for (let i = 0; i < DEFAULT_EVENT_LOG_OPTIONS.followers; i++)
      host.agent.events.read({ follow: true, wanted: () => true }, signal.signal);
    const full = /16 commands follow this agent's events already/;
    await refused(sockets.agent, "GET /v1/events?follow=true", undefined, full, 500);
    signal.abort();
  });

  test.each<[object | string, RegExp]>([
    [{ name: "app", subnett: "10.7.0.0/24" }, /knows the key subnett/],
    ['{"name":"app","__proto__":{"x":1}}', /knows the key __proto__/],
    [{ name: "app", options: { foo: "bar" } }, /no network option foo/],
    [{ name: "app", options: { mtu: 1400 } }, /options\.mtu/],
    [
      { name: "app", options: { "dns.unhealthy": "drop" } },
      /unhealthy=drop is not one of leave-out/,
    ],
    [{ name: "app", subnet: "10.7.0.1/24" }, /subnet: not a subnet/],
    [{ name: "app", gateway: "10.7.0.1" }, /need a subnet/],
    [{ name: "app", reserved: ["10.7.0.9"] }, /need a subnet/],
    [{ name: "app", subnet: "10.7.0.0/24", reserved: ["10.8.0.9"] }, /10\.8\.0\.9 does not lie/],
    [{ name: "a b" }, /name: letters, digits/],
    [{ name: "a\u0000" }, /name: letters, digits/],
    [{ name: "a".repeat(10_240) }, /name: Too big/],
    [{ name: "" }, /name: letters, digits/],
    [{}, /name: /],
    ["[]", /expected object/],
    ["7", /expected object/],
    ["null", /name: /],
    ["{", /not JSON/],
  ])("no network is made of %j", async (body, reason) => {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    await refused(sockets.agent, "POST /v1/networks", text, reason);
  });

  test("status shows what Docker was refused", async () => {
    await host.call("NetworkDriver.Join", {});
    const { body } = await ask(sockets.agent, "GET /v1/status");
    expect(body).toMatchObject({
      joined: true,
      plugin: { calls: { "NetworkDriver.Join": { asked: 1, decoded: 0, refused: 1, late: 0 } } },
    });
  });

  test("without an encrypted network there is no key to change, and what is asked for is refused in words", async () => {
    const before = await host.tables();
    const { status, body } = await ask(sockets.agent, "POST /v1/keys/rotate");
    expect({ status, body }).toEqual({ status: 200, body: { rotated: [], wireguard: false } });
    expect(await host.tables()).toBe(before);
    const rotate = "POST /v1/keys/rotate?";
    const none = /^this host has no IPsec keys with h1: they share no network of the kind/;
    await refused(sockets.agent, `${rotate}node=h1`, undefined, none, 404);
    await refused(sockets.agent, `${rotate}node=h9`, undefined, /no host h9/, 404);
    await refused(sockets.agent, `${rotate}network=secret`, undefined, /no network secret/, 404);
    await refused(sockets.agent, `${rotate}nod=h1`, undefined, /knows the key nod/);
  });

  test.each(["GET /v1/nothing", "PUT /v1/networks", "GET //", "GET /constructor"])(
    "%s is not there",
    async (what) => {
      await refused(sockets.agent, what, undefined, /^no .* here$/, 404);
    },
  );

  test("a body without end is not waited for", async () => {
    const head = "POST /v1/networks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    const chunk = Buffer.from(`1000\r\n${"x".repeat(0x1000)}\r\n`);
    const told = await sendRaw(sockets.agent, Buffer.from(head), chunk);
    expect(told).toMatch(/^HTTP\/1\.1 413 /);
    expect(told).toMatch(/more than 1048576 bytes/);
  });
});

describe("the controller's socket", () => {
  test.each<[object, RegExp]>([
    [{ ttl: "24h" }, /knows the key ttl/],
    [{ ttlMs: "24h" }, /ttlMs/],
    [{ ttlMs: 1.5 }, /ttlMs/],
    [{ ttlMs: 0 }, /more than none/],
    [{ ttlMs: -1 }, /more than none/],
    [{ ttlMs: Number.MAX_SAFE_INTEGER }, /up to ten years/],
    [{ uses: 0 }, /more than none/],
    [{ uses: 1e9 }, /up to ten years and 100000 hosts/],
    [{ networks: "app" }, /networks/],
    [{ networks: [""] }, /networks\.0/],
  ])("no token is made of %j", async (body, reason) => {
    await refused(sockets.controller, "POST /v1/tokens", JSON.stringify(body), reason);
  });

  test("a query's key that nobody knows is named", async () => {
    await refused(sockets.controller, "GET /v1/state?x=1", undefined, /knows the key x/);
    const rm = "DELETE /v1/nodes?node=h1";
    await refused(sockets.controller, rm, undefined, /knows the key node/);
    const none = "DELETE /v1/nodes?name=h9";
    await refused(sockets.controller, none, undefined, /no host h9/, 404);
  });
});

test("no state comes to be that hosts could not take in", async () => {
  const value = "x".repeat(4000);
  const make = (name: string, length: number): Promise<Told> => {
    const labels = Object.fromEntries(Array.from({ length }, (_, i) => [`l${i}`, value]));
    return ask(sockets.agent, "POST /v1/networks", JSON.stringify({ name, labels }));
  };
  const [most, more] = [await make("n0", 15), await make("n1", 17)];
  expect([most.status, more.status]).toEqual([200, 500]);
  expect(more.body.failure).toMatchObject({ code: "FULL" });
  expect(more.body.failure?.message).toMatch(/network \w+ would have \d+ bytes/);
  // What there is, is taken in, and can be removed.
  await host.quiet();
  expect((await ask(sockets.agent, "DELETE /v1/networks?name=n0")).status).toBe(200);
  expect((await make("n7", 15)).status).toBe(200);
});
