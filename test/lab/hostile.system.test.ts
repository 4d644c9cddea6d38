// @module-tag never

import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { cpuSeconds, privateMb } from "../support/process-cost.ts";
import { agentPid } from "./agent-process.ts";
import { addressOf, OURS, pings, reaches, start } from "./containers.ts";
import { Lab, startAgent } from "./lab.ts";

/**
 * h3 was admitted, for the network `app` alone, and turned: its agent is gone, and a program with its keys
 * does to h1 and h2 whatever it likes (test/hostile/attacks.ts). What h1 and h2 have goes on, what is
 * refused is counted, and what it costs them is bounded.
 */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-hostile-test-"));
const SCRIPT = join(import.meta.dirname, "../hostile/main.ts");
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;
/** Of one use, which h3 had. */
let forApp: string;

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: true, say: () => {} });
  [h1, h2, h3] = lab.hosts as [LabHost, LabHost, LabHost];
  const made = await h1.overlay("init", "--json", "--advertise-addr", "198.51.100.1");
  const { token } = JSON.parse(made) as { token: string };
  await h2.overlay("join", "--token", token, "198.51.100.1");
  await h1.docker(...OURS, "app");
  await h1.docker(...OURS, "private");
  const few = ["token", "create", "--network", "app", "--uses", "1"];
  forApp = (await h1.overlay(...few)).trim();
  await h3.overlay("join", "--token", forApp, "198.51.100.1");
  for (const host of lab.hosts) await host.waitForNetwork("app");
  await h2.waitForNetwork("private");
  for (const host of lab.hosts) await start(host, `c-${host.name}`, "app");
  for (const host of [h1, h2]) await start(host, `p-${host.name}`, "private");
  for (const host of lab.hosts) await eventually(60_000, "agreement", () => host.agrees());
  await h3.stopService("agent", "KILL");
});

afterAll(() => Lab.down(directory));

async function attack(name: string, given: object = {}): Promise<Record<string, unknown>> {
  const node = process.execPath;
  const keys = join(h3.directory, "data");
  const command = [node, "--disable-warning=ExperimentalWarning", SCRIPT, "--data-dir", keys, name];
  const text = await h3.exec(...command, JSON.stringify(given));
  return JSON.parse(text) as Record<string, unknown>;
}

/** Both networks of h1 and h2 work, by address and by name, and kernel, Docker and tables agree. */
async function unharmed(): Promise<void> {
  for (const [kind, network] of [
    ["c", "app"],
    ["p", "private"],
  ] as const) {
    const address = await addressOf(h2, `${kind}-h2`, network);
    await reaches(h1, `${kind}-h1`, address);
    const byName = ["exec", `${kind}-h1`, "/bin/ping", "-c", "1", `${kind}-h2`];
    await eventually(20_000, `${kind}-h2 by name`, async () =>
      expect(await h1.docker(...byName)).toContain(`(${address})`),
    );
  }
  for (const host of [h1, h2])
    await eventually(60_000, `agreement on ${host.name}`, () => host.agrees());
}

interface Row {
  readonly host: string;
  readonly ips: readonly string[];
  readonly mac: string;
}

async function endpoints(host: LabHost, network: string): Promise<Row[]> {
  const text = await host.overlay("endpoint", "ls", "--network", network, "--json");
  return JSON.parse(text) as Row[];
}

async function ignored(host: LabHost): Promise<string[]> {
  const { networks } = await host.status();
  return networks.flatMap((network) => network.ignored.map(({ reason }) => reason)).toSorted();
}

const honest = (): readonly LabHost[] => [h1, h2];

describe("claims", () => {
  test("another's address and MAC, the gateway's, another host's word: ignored with the reason", async () => {
    const before = await endpoints(h2, "app");
    const { ips, mac } = before.find(({ host }) => host === "h1")!;
    const inspected = JSON.parse(await h1.overlay("network", "inspect", "app")) as {
      subnets: { gateway: string }[];
    };
    const [{ gateway }] = inspected.subnets as [{ gateway: string }];
    const counts = async (host: LabHost) => (await host.status()).counters;
    const earlier = await Promise.all(honest().map(counts));
    const claims = { network: "app", victim: { ip: ips[0], mac }, gateway };
    expect(await attack("claimEndpoints", claims)).toEqual({ claimed: 4 });
    for (const [i, host] of honest().entries()) {
      await eventually(10_000, "the claims", async () =>
        expect(await ignored(host)).toEqual([
          "gateway",
          "mac-taken",
          "not-in-block",
          "not-in-block",
        ]),
      );
      await eventually(10_000, "what is counted and said of them", async () => {
        const { networks, mesh } = await counts(host);
        expect(networks["badSignature"]).toBeGreaterThanOrEqual(
          earlier[i]!["networks"]["badSignature"]! + 1,
        );
        expect(mesh["unsealed"]).toBeGreaterThan(earlier[i]!["mesh"]["unsealed"]!);
        const names = await host.overlay("names", "app");
        expect(names).toMatch(/stolen.*(not-in-block|mac-taken)/);
      });
      const of = (rows: readonly Row[]) => rows.find((row) => row.host === "h1");
      expect(of(await endpoints(host, "app"))).toEqual(of(before));
    }
    await unharmed();
  });

  test("another's VTEP, its tunnel's key, networks of which it may know nothing", async () => {
    expect(await attack("claimHost", { networks: ["app", "private"] })).toEqual({ said: 3 });
    for (const host of honest())
      await eventually(10_000, "the word of another", async () => {
        const { cluster } = (await host.status()).counters;
        expect(cluster["badSignature"]).toBeGreaterThanOrEqual(2);
      });
    await unharmed();
    expect((await endpoints(h1, "private")).map(({ host }) => host).toSorted()).toEqual([
      "h1",
      "h2",
    ]);
  });

  test("a network that its token did not allow keeps its key, addresses and members to itself", async () => {
    const found = await attack("lookInto", { network: "private" });
    for (const what of ["key", "block", "rotate"])
      expect(found[what]).toMatch(/not allowed|may not|restricted/);
    expect(found["documents"]).toBe("notHere");
  });

  test("a state that the controller did not sign, and an old one", async () => {
    const { revision } = await h1.status();
    await attack("forgeState");
    for (const host of honest())
      await eventually(10_000, "the forged states", async () => {
        const { cluster } = (await host.status()).counters;
        expect(cluster["badState"]).toBeGreaterThanOrEqual(3);
      });
    for (const host of honest()) expect((await host.status()).revision).toBe(revision);
    await unharmed();
  });

  test("what others said before, said again, brings nothing back", async () => {
    await start(h1, "gone", "app");
    const address = await addressOf(h1, "gone", "app");
    const has = async (): Promise<boolean> =>
      (await endpoints(h2, "app")).some(({ ips }) => ips.includes(address));
    await eventually(10_000, "the new one", async () => expect(await has()).toBe(true));
    const old = await attack("replay", { network: "app" });
    await h1.docker("rm", "-f", "gone");
    await eventually(10_000, "its end", async () => expect(await has()).toBe(false));
    const again = await attack("replay", { network: "app", ...old });
    expect(again["replayed"]).toBeGreaterThanOrEqual(4);
    expect(await has()).toBe(false);
    await unharmed();
  });
});

describe("noise", () => {
  /** What the agents have cost since; the figures are for people, memory alone has a bound here. */
  const costs = () => {
    const pids = honest().map(({ directory }) => agentPid(directory));
    const before = pids.map((pid) => ({
      cpu: cpuSeconds(pid),
      mb: privateMb(pid),
      ms: Date.now(),
    }));
    return (what: string): void => {
      for (const [i, pid] of pids.entries()) {
        const { cpu, mb, ms } = before[i]!;
        const share = (100 * (cpuSeconds(pid) - cpu)) / ((Date.now() - ms) / 1000);
        const now = privateMb(pid);
        const grown = `${mb.toFixed(0)} to ${now.toFixed(0)} MB`;
        console.info(`${what}: h${i + 1}'s agent ${share.toFixed(0)} % of a core, ${grown}`);
        expect(now).toBeLessThan(mb + 150);
      }
    };
  };

  test("huge, deep, cut off, half open", async () => {
    const earlier = (await h1.status()).counters["cluster"]["malformed"]!;
    const cost = costs();
    await attack("malformed");
    cost("malformed");
    await eventually(10_000, "what is no message", async () =>
      expect((await h1.status()).counters["cluster"]["malformed"]).toBeGreaterThan(earlier),
    );
    await unharmed();
  });

  test("a thousand strangers that connect and say nothing keep nobody out", async () => {
    const cost = costs();
    await attack("halfOpen", { count: 1000 });
    cost("half open");
    await unharmed();
    await h2.stopService("agent", "KILL");
    startAgent(h2, true);
    await eventually(60_000, "h2 is back", () => h2.agrees());
    await eventually(60_000, "and connected", async () => {
      const { peers } = await h2.status();
      expect(peers.find(({ name }) => name === "h1")?.connected).toBe(true);
    });
  });

  test("a flood is cut off; memory stays what it was, and changes go through meanwhile", async () => {
    const cost = costs();
    const flooding = attack("flood", { seconds: 60 });
    await start(h1, "meanwhile", "app");
    const address = await addressOf(h1, "meanwhile", "app");
    await eventually(10_000, "the new container", async () =>
      expect(await pings(h2, "c-h2", address)).toBe(3),
    );
    const { sent, cut } = await flooding;
    cost(`flood of ${String(sent)}`);
    expect(cut).toBe(2);
    expect(sent).toBeGreaterThan(20_000);
    for (const host of honest())
      expect((await host.status()).counters["mesh"]).toMatchObject({ floodCut: 1 });
    await unharmed();
  });
});

test("a token that is used up admits nobody, whoever has stolen it", async () => {
  const { said } = await attack("joinAsStranger", { token: forApp });
  expect(said).toMatch(/used up/);
});

test("a revoked host is out: of the mesh, of the controller's port, and of the networks", async () => {
  const address = await addressOf(h1, "c-h1", "app");
  expect(await pings(h3, "c-h3", address)).toBe(3);
  await h1.overlay("node", "rm", "h3");
  for (const host of honest())
    await eventually(20_000, "h3 is gone", async () => {
      expect((await host.status()).peers.map(({ name }) => name)).not.toContain("h3");
      expect((await endpoints(host, "app")).map((row) => row.host)).not.toContain("h3");
    });
  // Its kernel is as its agent left it, and still sends.
  await eventually(20_000, "silence", async () => expect(await pings(h3, "c-h3", address)).toBe(0));
  // Each is left without an answer for some time.
  const [dialled, looked] = await Promise.all([
    attack("dial"),
    attack("lookInto", { network: "app" }).catch(() => "refused"),
  ]);
  expect(dialled).toEqual({ welcome: 0 });
  expect(looked).toBe("refused");
  for (const host of honest())
    await eventually(10_000, "the refusal", async () =>
      expect((await host.status()).counters["mesh"]["refusedRevoked"]).toBeGreaterThan(0),
    );
  await unharmed();
});

test("a removed host that comes back is told so by its own agent, and does what that says", async () => {
  startAgent(h3, true);
  const { removed } = await eventually(60_000, "the controller's word", async () => {
    const found = await h3.status();
    expect(found).toMatchObject({ joined: true, removed: { code: "NOT_JOINED" } });
    return found;
  });
  expect(await h3.statusText()).toMatch(
    /this host was removed from the cluster: [^]*→ `overlay-ts leave --force`/,
  );
  await eventually(10_000, "the event", async () =>
    expect(await h3.overlay("events")).toMatch(
      /- {2}membership {2}problem {2}this host was removed from the cluster/,
    ),
  );
  expect(removed?.next).toMatch(/leave --force.*overlay-ts join.*token create/);
  // It was told that it is out, and nothing of what the cluster is now.
  const { revision } = await h3.status();
  expect(revision).toBeLessThan((await h1.status()).revision);
  await h3.docker("rm", "-f", "c-h3");
  await h3.overlay("leave", "--force");
  const token = (await h1.overlay("token", "create", "--network", "app", "--uses", "1")).trim();
  await h3.overlay("join", "--token", token, "198.51.100.1");
  await h3.waitForNetwork("app");
  await start(h3, "again", "app");
  for (const host of lab.hosts) await eventually(60_000, "agreement", () => host.agrees());
  expect((await h3.status()).removed).toBeUndefined();
  await reaches(h3, "again", await addressOf(h1, "c-h1", "app"));
});
