import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { reachOthers } from "../../../agent/cli/other-hosts.ts";
import type { PortAnswer } from "../../../shared/node/tcp-port.ts";
import { UnixHttpServer } from "../../../shared/node/unix-http.ts";

let directory: string;
let agent: UnixHttpServer;
let nodes: { name: string; address: string; self: boolean; connected: boolean; dialled: boolean }[];
let roundTripMs: number | undefined;
/** What each address says, and who was asked. */
let ports: Record<string, PortAnswer["kind"]>;
let asked: string[];
/** With each look at it: how often the machine's table of neighbours was full. */
let timesFull: number[];
let said: string[];
/** Called with each look at the hosts. */
let looked: (times: number) => void;

const host = (k: number, more: Partial<(typeof nodes)[number]> = {}) => ({
  name: `h${k}`,
  address: `127.0.0.${k}`,
  self: false,
  connected: false,
  dialled: true,
  ...more,
});

beforeEach(async () => {
  // We are no sign of life of others.
  nodes = [host(1), host(2, { self: true, connected: true })];
  [roundTripMs, ports, asked, said, looked] = [1, {}, [], [], () => {}];
  timesFull = [];
  directory = mkdtempSync(join(tmpdir(), "ovt-other-hosts-"));
  let looks = 0;
  agent = new UnixHttpServer(join(directory, "agent.sock"), {
    "GET /v1/nodes": async () => {
      looked(++looks);
      return nodes;
    },
    "POST /v1/probe": async () => [{ name: "h1", roundTripMs }],
  });
  await agent.start();
});

afterEach(async () => {
  await agent.stop();
  rmSync(directory, { recursive: true, force: true });
});

function reach(timeoutMs = 1, slowMs = 60_000): Promise<void> {
  const context = { dataDirectory: directory, runDirectory: directory, json: false };
  return reachOthers(context, {
    timeoutMs,
    slowMs,
    sayMs: 1,
    say: (text) => said.push(text),
    timesFull: (family) => (family === 4 ? timesFull.shift() : undefined),
    ask: async (address) => {
      asked.push(address);
      const kind = ports[address] ?? "refuses";
      return kind === "not-sent" ? { kind, why: "connect EPERM" } : { kind };
    },
  });
}

test("a host alone has nobody to reach, and one that is connected and proven is reached", async () => {
  nodes = [host(2, { self: true })];
  roundTripMs = undefined;
  await reach();
  nodes = [host(1, { connected: true })];
  roundTripMs = 1;
  await reach();
  expect({ asked, said }).toEqual({ asked: [], said: [] });
});

test("a host that takes the connection is waited on, however long after the others' time, and that is said", async () => {
  ports["127.0.0.1"] = "accepts";
  looked = (times) => {
    if (times === 4) nodes = [host(1, { connected: true })];
  };
  await reach();
  expect(said.length).toBeGreaterThan(0);
  for (const text of said)
    expect(text).toMatch(
      /^no connection with another host after \d+ s: 7947\/tcp of h1 takes connections, and no handshake has ended.*busy; waiting on$/,
    );
});

test("one that takes connections and never gets further is slow, and not unreachable", async () => {
  ports["127.0.0.1"] = "accepts";
  await expect(reach(1, 1)).rejects.toMatchObject({
    code: "TIMEOUT",
    message: expect.stringMatching(/7947\/tcp of h1 takes connections/),
    next: expect.stringMatching(/uptime.*goes on trying/),
  });
});

test.each([
  ["refuses", /7947\/tcp of h1 refuses connections: no agent listens/, /systemctl status/],
  ["no-route", /no route to h1/, /ip route get 127\.0\.0\.1/],
  ["silent", /7947\/tcp of h1 does not answer: what is sent there is lost/, /open 7947\/tcp/],
  ["not-sent", /this host cannot send to 7947\/tcp of h1: connect EPERM/, /nft list ruleset/],
] as const)(
  "a port that %s is not reached, and what to do is its own",
  async (kind, what, next) => {
    ports["127.0.0.1"] = kind;
    await expect(reach()).rejects.toMatchObject({
      code: "UNREACHABLE",
      message: expect.stringMatching(what),
      next: expect.stringMatching(next),
    });
  },
);

test("hosts that say the same are named together, and one that only is slow makes it worth waiting", async () => {
  nodes = [host(1), host(3), host(4), host(2, { self: true })];
  ports = { "127.0.0.1": "silent", "127.0.0.3": "accepts", "127.0.0.4": "silent" };
  looked = (times) => {
    if (times === 4) nodes = [host(3, { connected: true })];
  };
  await reach();
  expect(said.at(-1)).toMatch(/7947\/tcp of h1, h4 does not answer.*; 7947\/tcp of h3 takes/);
});

test("where this machine has no room for neighbours, that is said beside what the ports seem to say", async () => {
  ports["127.0.0.1"] = "silent";
  timesFull = [5, 8];
  await expect(reach()).rejects.toMatchObject({
    message: expect.stringMatching(
      /h1 does not answer.*; this machine's table of neighbours was full/,
    ),
    next: expect.stringMatching(/open 7947.*; .*sysctl -w net\.ipv4\.neigh/),
  });
  timesFull = [8, 8];
  await expect(reach()).rejects.not.toThrow(/neighbours/);
});

test("of many hosts only those are asked that the agent dials", async () => {
  nodes = [host(1), ...Array.from({ length: 40 }, (_, k) => host(k + 3, { dialled: false }))];
  await expect(reach()).rejects.toThrow(/of h1 refuses/);
  expect(new Set(asked)).toEqual(new Set(["127.0.0.1"]));
});

test("a data path that does not answer is a failure, whatever the mesh does", async () => {
  nodes = [host(1, { connected: true })];
  roundTripMs = undefined;
  await expect(reach()).rejects.toThrow(/no answer over VXLAN .* from h1/);
});
