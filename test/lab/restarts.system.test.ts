import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { addressOf, GONE, OURS, pings, reaches, refusal, SLEEP, start } from "./containers.ts";
import { Lab, startAgent } from "./lab.ts";
import { Pinging } from "./pinging.ts";

/**
 * Agents, engines and the controller end and start again, in any order, while containers talk: h2 is
 * where things happen, h1 (the controller's host) and h3 must not notice.
 */

// Docker alone waits 15 seconds for each call that a plugin does not take.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

/** h2's. That the older ones end and come back too: naming, docker and names-failures. */
const ENGINE = "28.5";
const directory = mkdtempSync(join(tmpdir(), "overlay-ts-restarts-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;
const address: Record<string, string> = {};

beforeAll(async () => {
  const engines = ["20.10", ENGINE, "26.1"] as const;
  lab = await Lab.up({ directory, hosts: 3, docker: true, engines, say: () => {} });
  [h1, h2, h3] = lab.hosts as [LabHost, LabHost, LabHost];
  await lab.form(() => {});
  await h1.docker(...OURS, "--subnet", "10.90.0.0/22", "app");
  await everywhere("app");
  for (const host of [h1, h3]) address[host.name] = await start(host, "still", "app");
  address["h2"] = await start(h2, "still", "app", "--restart", "always", "--ip", "10.90.0.9");
});

afterAll(() => Lab.down(directory));

async function everywhere(network: string): Promise<void> {
  for (const host of lab.hosts) await host.waitForNetwork(network);
}

/** Between h1 and h3, which nothing that happens on h2 may touch; and with h2 when it should stay. */
let pinging: Pinging[] = [];

async function keepPinging(...to: readonly (readonly [LabHost, LabHost])[]): Promise<void> {
  for (const [from, of] of to)
    pinging.push(await Pinging.start(from, "still", address[of.name] ?? ""));
}

async function nothingLost(): Promise<void> {
  const stopping = pinging;
  pinging = [];
  for (const one of stopping) {
    const { sent, lost } = await one.stop();
    expect(lost).toEqual([]);
    expect(sent).toBeGreaterThanOrEqual(20);
  }
}

beforeEach(() => keepPinging([h1, h3]));

afterEach(async () => {
  await nothingLost();
  for (const host of lab.hosts)
    await eventually(120_000, `agreement on ${host.name}`, () => host.agrees());
});

async function agentUp(host: LabHost): Promise<void> {
  startAgent(host, true);
  await eventually(30_000, `the agent of ${host.name}`, async () => {
    const status = await host.status();
    expect(status).toMatchObject({ joined: true, docker: { reachable: true } });
  });
}

/** Everybody reaches h2's container, and it reaches everybody. */
async function h2Reaches(): Promise<void> {
  for (const host of [h1, h3])
    await eventually(30_000, `h2's container, from ${host.name}`, async () => {
      expect(await pings(host, "still", address["h2"] ?? "")).toBe(3);
      expect(await pings(h2, "still", address[host.name] ?? "")).toBe(3);
    });
}

/** Those of `still` on each host, as h1 knows them, and no others. */
function onlyTheirs(timeoutMs: number): Promise<void> {
  return eventually(timeoutMs, "the containers that were there", async () => {
    const held = await h1.ask<{ ips: string[] }[]>("endpoints");
    expect(held.flatMap(({ ips }) => ips).toSorted()).toEqual(Object.values(address).toSorted());
  });
}

type Signal = "TERM" | "KILL";
const BOTH: readonly Signal[] = ["TERM", "KILL"];

/** The soak has both of each; agent and engine alone by either are in `docker` and `names-failures` as well. */
function by(signal: Signal): readonly Signal[] {
  return process.env["SOAK"] === undefined ? [signal] : BOTH;
}

test.each(BOTH)("by SIG%s: an agent", async (signal) => {
  await keepPinging([h1, h2], [h2, h3]);
  await h2.stopService("agent", signal);
  expect(await pings(h3, "still", address["h2"] ?? "")).toBe(3);
  await agentUp(h2);
  expect(await pings(h2, "still", address["h3"] ?? "")).toBe(3);
});

test.each(by("KILL"))("by SIG%s: all agents at once", async (signal) => {
  await keepPinging([h1, h2], [h2, h3]);
  await Promise.all(lab.hosts.map((host) => host.stopService("agent", signal)));
  await h2Reaches();
  await Promise.all(lab.hosts.map(agentUp));
  await h2Reaches();
});

test.each(by("KILL"))(
  "by SIG%s: an engine: its containers come back, with the addresses they asked for",
  async (signal) => {
    await start(h2, "any", "app", "--restart", "always");
    await h2.stopEngine(signal);
    await h2.startEngine(ENGINE);
    await h2Reaches();
    expect(await addressOf(h2, "still", "app")).toBe(address["h2"]);
    await eventually(60_000, "the other container", async () => {
      const again = await addressOf(h2, "any", "app");
      expect(again).not.toBe("");
      expect(await pings(h1, "still", again)).toBe(3);
    });
    await h2.docker("rm", "-f", "any");
  },
);

test.each(by("TERM"))(
  "by SIG%s: an engine with --live-restore: its containers notice nothing",
  async (signal) => {
    await h2.stopEngine(signal);
    await h2.startEngine(ENGINE, "--live-restore");
    await h2Reaches();
    await onlyTheirs(120_000);
    await keepPinging([h1, h2], [h2, h3]);
    await h2.stopEngine(signal);
    expect(await pings(h1, "still", address["h2"] ?? "")).toBe(3);
    await h2.startEngine(ENGINE, "--live-restore");
    expect(await pings(h2, "still", address["h3"] ?? "")).toBe(3);
    // Agent and engine together, the engine first to come.
    await h2.stopService("agent", signal);
    await h2.stopEngine(signal);
    const engine = h2.startEngine(ENGINE, "--live-restore");
    await agentUp(h2);
    await engine;
    await h2Reaches();
    await onlyTheirs(30_000);
    await nothingLost();
    await h2.docker("rm", "-f", "still");
    address["h2"] = await start(h2, "still", "app", "--restart", "always", "--ip", "10.90.0.9");
    await h2Reaches();
  },
);

test.each(by("KILL"))(
  "by SIG%s: agent and engine, the agent first to go and to come",
  async (signal) => {
    await h2.stopService("agent", signal);
    await h2.stopEngine(signal);
    await agentUpWithoutEngine(h2);
    await h2.startEngine(ENGINE);
    await h2Reaches();
  },
);

test.each(by("TERM"))(
  "by SIG%s: engine and agent, the engine first to go and to come",
  async (signal) => {
    await h2.stopEngine(signal);
    await h2.stopService("agent", signal);
    const engine = h2.startEngine(ENGINE);
    await agentUp(h2);
    await engine;
    await h2Reaches();
  },
);

async function agentUpWithoutEngine(host: LabHost): Promise<void> {
  startAgent(host, true);
  await eventually(30_000, `the agent of ${host.name}`, () => host.overlay("node", "ls"));
}

test("everything on a host while the controller is away", async () => {
  await h1.stopService("controller", "KILL");
  await Promise.all(lab.hosts.map((host) => host.stopService("agent", "KILL")));
  await Promise.all(lab.hosts.map(agentUp));
  await h2Reaches();
  await h2.stopEngine("TERM");
  await h2.stopService("agent", "TERM");
  await agentUpWithoutEngine(h2);
  await h2.startEngine(ENGINE);
  await h2Reaches();
  h1.startController();
  await eventually(30_000, "the controller", () => h1.overlay("token", "create"));
});

describe("while the agent is away", () => {
  const run = (name: string): string[] => ["run", "-d", "--name", name, "--network", "app"];

  test("Docker says why no container starts, and starts them when it is back; a network ends and another begins", async () => {
    await h1.docker(...OURS, "ends");
    await everywhere("ends");
    await h2.stopService("agent", "TERM");
    await h1.docker("network", "rm", "ends");
    await h1.docker(...OURS, "begins");
    // Docker waits 15 seconds for a plugin: for both at once.
    const refused = [
      [...run("later"), ...SLEEP],
      [...OURS, "refused"],
    ];
    for (const said of await Promise.all(refused.map((args) => refusal(h2.docker(...args)))))
      expect(said).toMatch(/overlay-ts\.sock/);
    await agentUp(h2);
    await h2.docker("start", "later");
    await reaches(h1, "still", await addressOf(h2, "later", "app"));
    await h2.docker("rm", "-f", "later");
    await everywhere("begins");
    await eventually(60_000, "the end of a view", async () => {
      expect(await refusal(h2.docker("network", "inspect", "ends"))).toMatch(GONE);
    });
    await start(h2, "b2", "begins");
    const far = await start(h3, "b3", "begins");
    await reaches(h2, "b2", far);
    for (const [host, name] of [[h2, "b2"] as const, [h3, "b3"] as const])
      await host.docker("rm", "-f", name);
  });
});
