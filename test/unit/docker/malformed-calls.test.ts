import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BOUNDS } from "../../../shared/bounds.ts";
import { failOnCrashes } from "../../support/crashes.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import {
  ALL_CALLS,
  createEndpoint,
  createNetwork,
  done,
  goodBody,
  makeEndpoint,
  makeNetwork,
  NETWORK,
  pool,
  refused,
  SILENT_CALLS,
  TELLING_CALLS,
} from "../../support/plugin-bodies.ts";
import { callPlugin, sendRaw } from "../../support/plugin-client.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-input-"));
let cluster: FakeCluster;
let host: FakeHost;
let poolId: string;

beforeAll(async () => {
  cluster = await fakeCluster(1, directory);
  [host] = cluster.hosts as [FakeHost];
  poolId = await makeNetwork(host);
  await makeEndpoint(host, poolId);
  await host.quiet();
});

afterAll(async () => {
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
});

describe.each(ALL_CALLS)("%s refuses", (name) => {
  test.each([
    "{",
    "{]",
    '{"NetworkID":',
    "not json",
    '{"a":1}{"b":2}',
    "\u0000",
    "\uFEFF{}",
    '{"a":"\u0001"}',
  ])("what is not JSON: %j", async (text) => {
    await refused(host, name, Buffer.from(text), /not JSON/);
  });

  test.each([[[]], [1], ["text"], [null], [true]])("JSON of another kind: %j", async (body) => {
    await refused(host, name, body, /not understood: .*(expected object)/);
  });

  test("bytes that are no text", async () => {
    await refused(host, name, Buffer.from([0xff, 0xfe, 0x7b, 0x80, 0x7d]), /not JSON/);
  });

  test("more nesting than anybody needs", async () => {
    await refused(host, name, Buffer.from("[".repeat(200_000)), /not JSON/);
    await refused(host, name, Buffer.from("[".repeat(9e4) + "]".repeat(9e4)), /expected object/);
  });

  test("a body over the bound, and says so", async () => {
    const body = Buffer.alloc(BOUNDS.httpBodyBytes + 1, " ");
    await refused(host, name, body, /more than 1048576 bytes/, { status: 413 });
  });
});

test.each(["Plugin.Activate", "NetworkDriver.CreateNetwork", "IpamDriver.RequestPool"])(
  "%s does not wait for a body without end, and says so",
  async (name) => {
    const before = await host.tables();
    const head = `POST /${name} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n`;
    const chunk = Buffer.from(`1000\r\n${"x".repeat(0x1000)}\r\n`);
    const answer = await sendRaw(host.socket, Buffer.from(head), chunk);
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer).toMatch(/"Err":"the message has more than 1048576 bytes/);
    expect(await host.tables()).toBe(before);
  },
);

test.each(TELLING_CALLS)("%s refuses the empty body of a retried call", async (name) => {
  await refused(host, name, undefined, /not understood: (NetworkID|PoolID|AddressSpace)/);
  await refused(host, name, {}, /not understood: (NetworkID|PoolID|AddressSpace)/);
});

test.each(SILENT_CALLS)("%s needs no body", async (name) => {
  const before = await host.tables();
  await done(host, name);
  await done(host, name, {});
  expect(await host.tables()).toBe(before);
});

describe("a field of the wrong kind is named", () => {
  const kinds = TELLING_CALLS.flatMap((name) =>
    Object.keys(goodBody(name, poolId ?? "")).map((field) => [name, field] as const),
  );

  test.each(kinds)("%s: %s", async (name, field) => {
    const wrong = { ...goodBody(name, poolId ?? ""), [field]: 7 };
    await refused(host, name, wrong, new RegExp(`not understood: ${field}`));
  });

  test.each<[object, RegExp]>([
    [createNetwork({ options: { mtu: 1400 } }), /mtu: .*expected string/],
    [{ ...createNetwork(), Options: { "com.docker.network.generic": "x" } }, /expected record/],
    [createNetwork({ pools: [pool({ Pool: undefined })] }), /IPv4Data\.0\.Pool/],
    [createNetwork({ pools: [pool({ Gateway: 5 })] }), /IPv4Data\.0\.Gateway/],
    [createNetwork({ pools: [pool({ AuxAddresses: { a: 5 } })] }), /AuxAddresses\.a/],
    [createNetwork({ pools: [null] }), /IPv4Data\.0/],
    [{ ...createNetwork(), IPv4Data: { 0: pool() } }, /IPv4Data: .*expected array/],
  ])("inside a network: %j", async (body, reason) => {
    await refused(host, "NetworkDriver.CreateNetwork", body, reason);
  });

  test("the first of many, with how many more", async () => {
    const body = createNetwork({ pools: Array.from({ length: 5000 }, () => 1) });
    await refused(host, "NetworkDriver.CreateNetwork", body, /IPv4Data\.2: .*; and 4997 more/);
  });
});

describe("hostile text", () => {
  const long = "a".repeat(10_240);
  const texts = [long, "a\u0000b", "a\nb", "\u001b[2J", "../../etc", "", " ", "‮abc", "\ud800"];
  const idFields = TELLING_CALLS.flatMap((name) =>
    Object.keys(goodBody(name, poolId ?? ""))
      .filter((field) => field.endsWith("ID") && field !== "PoolID")
      .map((field) => [name, field] as const),
  );

  test.each(idFields)("%s: as %s", async (name, field) => {
    for (const text of texts)
      await refused(
        host,
        name,
        { ...goodBody(name, poolId ?? ""), [field]: text },
        new RegExp(field),
      );
  });

  test("as a pool's id", async () => {
    for (const text of texts) {
      const short = text.length <= 256;
      const reason = short ? /knows no address pool/ : /PoolID/;
      const body = { PoolID: text, Address: "", Options: null };
      await refused(host, "IpamDriver.RequestAddress", body, reason, { decoded: short });
    }
  });

  test("as an option's name and value", async () => {
    for (const text of texts.filter((candidate) => candidate !== "")) {
      const body = createNetwork({ id: "9c".repeat(32), options: { [text]: "x" } });
      await refused(host, "NetworkDriver.CreateNetwork", body, /option|driverOptions\.a+…/, {
        decoded: true,
      });
      const value = createNetwork({ id: "9c".repeat(32), options: { mtu: `1${text}` } });
      await refused(host, "NetworkDriver.CreateNetwork", value, /MTU|driverOptions\.mtu: Too big/, {
        decoded: true,
      });
    }
  });

  test("as an address", async () => {
    for (const text of texts.filter((candidate) => candidate !== "")) {
      const body = createEndpoint(text, "f7".repeat(32));
      await refused(host, "NetworkDriver.CreateEndpoint", body, /not an address with prefix/);
    }
  });
});

describe("what is no call", () => {
  test.each(["", "Plugin.Nothing", "constructor", "__proto__", "v1/status", "Plugin.Activate?x=1"])(
    "the path %j is not known, as Docker understands it",
    async (path) => {
      const before = host.plugin.counts().unknown;
      const { status, body } = await host.call(path);
      expect({ status, body }).toEqual({
        status: 404,
        body: { Err: body["Err"], Error: body["Err"] },
      });
      expect(body["Err"]).toMatch(/^overlay-ts has no call .*\(.+\)$/);
      expect(host.plugin.counts().unknown).toEqual({ ...before, names: before.names + 1 });
    },
  );

  test.each(["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])("%s is none", async (method) => {
    const before = host.plugin.counts().unknown;
    const answer = await callPlugin(host.socket, "NetworkDriver.CreateNetwork", undefined, {
      method,
    });
    expect(answer.status).toBe(405);
    expect(answer.body["Err"]).toMatch(/is called by POST, not/);
    expect(host.plugin.counts().unknown).toEqual({ ...before, methods: before.methods + 1 });
  });

  test.each([
    ["noise", "\u0001\u0002\u0003\r\n\r\n", 400],
    ["another protocol", "SSH-2.0-x\r\n\r\n", 400],
    ["a head that lies about its body", "POST /x HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400],
    [
      "two lengths",
      "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
      400,
    ],
    ["a head that is too large", `POST /x HTTP/1.1\r\nA: ${"x".repeat(20_000)}\r\n\r\n`, 431],
    ["a path that is too large", `POST /${"x".repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431],
  ])("%s", async (_what, text, status) => {
    const before = { tables: await host.tables(), unknown: host.plugin.counts().unknown };
    const answer = await sendRaw(host.socket, Buffer.from(text, "latin1"));
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer).toMatch(/"Err":".+\(.+\)","Error":/);
    expect(host.plugin.counts().unknown).toEqual({
      ...before.unknown,
      garbage: before.unknown.garbage + 1,
    });
    expect(await host.tables()).toBe(before.tables);
  });

  test("a call that breaks off half-way changes nothing, and the next one is served", async () => {
    const before = await host.tables();
    const half = `POST /NetworkDriver.DeleteNetwork HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"NetworkID":"${NETWORK}"`;
    await sendRaw(host.socket, Buffer.from(half));
    await done(host, "Plugin.Activate");
    expect(await host.tables()).toBe(before);
  });
});
