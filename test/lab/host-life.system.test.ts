import { copyFileSync, existsSync, mkdtempSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { agentPid, whileFrozen } from "./agent-process.ts";
import { addressOf, OURS, pings, reaches, refusal, start } from "./containers.ts";
import { IMAGE, Lab, startAgent } from "./lab.ts";

/** How hosts end their part, whatever the state of their agents, on three engines: h3, which ends most, has the newest. */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-life-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: true, engines: ENGINE_KINDS, say: () => {} });
  await lab.form(() => {});
  [h1, h2, h3] = lab.hosts as [LabHost, LabHost, LabHost];
  await h1.docker(...OURS, "app");
  for (const host of lab.hosts) await host.waitForNetwork("app");
  await start(h1, "c1", "app");
  await start(h2, "c2", "app");
});

afterAll(() => Lab.down(directory));

/** Nothing of ours is in the host's kernel or on its engine, but these tables. */
async function expectNothing(host: LabHost, ...tables: string[]): Promise<void> {
  expect(readdirSync(host.path("/run/overlay-ts/netns"))).toEqual([]);
  const ours = (await host.exec("nft", "list", "tables")).match(/overlay_ts\w*/g) ?? [];
  expect(ours).toEqual(tables);
  expect(await host.exec("ss", "-Huln", "sport", "=", ":7948")).toBe("");
  expect(await host.docker("network", "ls", "--filter", "driver=overlay-ts", "-q")).toBe("");
}

/** h3 is a member with a container on `app`. */
async function joinAgain(): Promise<void> {
  await h1.overlay("node", "rm", "h3");
  const token = (await h1.overlay("token", "create", "--uses", "1")).trim();
  await h3.overlay("join", "--token", token, "198.51.100.1");
  await h3.waitForNetwork("app");
}

async function withChurn(work: () => Promise<void>): Promise<void> {
  const ending = new AbortController();
  let rounds = 0;
  const churn = (async () => {
    while (!ending.signal.aborted) {
      await h1.docker("run", "--rm", "--network", "app", IMAGE, "/bin/true");
      rounds++;
    }
  })();
  try {
    await eventually(60_000, "churn", async () => expect(rounds).toBeGreaterThan(1));
    await work();
    // What the others say goes on reaching whoever would listen.
    const before = rounds;
    await eventually(60_000, "churn", async () => expect(rounds).toBeGreaterThan(before + 2));
  } finally {
    ending.abort();
    await churn;
  }
}

test("while others churn, a host with a container leaves by force: nothing is left, and the others know", async () => {
  await start(h3, "c3", "app");
  await withChurn(async () => {
    const said = await h3.overlay("leave", "--force");
    expect(said).toMatch(/has left.*docker network connect app c3/s);
    await expectNothing(h3);
    await eventually(30_000, "word of it on h1", async () =>
      expect(await h1.overlay("names", "app")).not.toMatch(/^app +c3 /m),
    );
  });
  await expectNothing(h3);
  await eventually(30_000, "the others' knowledge", async () => {
    const { dataPath } = await h1.status();
    expect(dataPath.find(({ name }) => name === "h3")?.roundTripMs).toBeUndefined();
  });
});

test("what it cut off is connected again by the command that it named", async () => {
  await joinAgain();
  await h3.docker("network", "connect", "app", "c3");
  await reaches(h3, "c3", await addressOf(h1, "c1", "app"));
});

test("an agent whose sockets are gone, and one that hangs, are seen: nothing is taken from under them", async () => {
  const pid = agentPid(h3.directory);
  await h3.exec("rm", "/run/docker/plugins/overlay-ts.sock");
  expect(await h3.statusText()).toMatch(
    /overlay-ts\.sock is gone.*\n.*systemctl restart overlay-ts-agent/,
  );
  // As `rm -rf /run/overlay-ts`, which cannot remove what is pinned.
  await h3.exec("rm", "/run/overlay-ts/agent.sock");
  const commands = ["leave", "withdraw"].flatMap((what) => [[what], [what, "--force"]]);
  for (const command of commands)
    expect(await refusal(h3.overlay(...command))).toMatch(
      /the agent, process \d+, runs.*its socket is gone\n.*restart overlay-ts-agent/s,
    );
  await h3.stopService("agent", "KILL");
  startAgent(h3, true);
  await eventually(30_000, "the agent", () => h3.status());
  expect(agentPid(h3.directory)).not.toBe(pid);
  expect(await h3.statusText()).not.toContain("is gone");
  await whileFrozen(h3, async () => {
    for (const said of await Promise.all(commands.map((each) => refusal(h3.overlay(...each)))))
      expect(said).toMatch(/has not answered.*if it hangs.*restart overlay-ts-agent/s);
  });
  expect(existsSync(join(h3.directory, "data/agent/membership.json"))).toBe(true);
  expect(await pings(h3, "c3", await addressOf(h1, "c1", "app"))).toBe(3);
});

test("a host that withdraws has nothing of ours, and takes part again when its agent starts", async () => {
  expect(await h3.overlay("withdraw", "--force")).toMatch(
    /still a member.*docker network connect app c3/s,
  );
  await expectNothing(h3);
  expect(await refusal(h3.statusText())).toMatch(
    /has withdrawn from its networks.*systemctl restart overlay-ts-agent/s,
  );
  await eventually(30_000, "word of it on h1", async () =>
    expect(await h1.overlay("names", "app")).not.toMatch(/^app +c3 /m),
  );
  await h3.stopService("agent", "TERM");
  startAgent(h3, true);
  await h3.waitForNetwork("app");
  await h3.docker("network", "connect", "app", "c3");
  await reaches(h3, "c3", await addressOf(h1, "c1", "app"));
  await reaches(h1, "c1", await addressOf(h3, "c3", "app"));
});

test("without an agent: refused while a container runs, by force nothing is left", async () => {
  await h3.stopService("agent", "TERM");
  expect(await refusal(h3.overlay("leave"))).toMatch(/containers here use .*--force/s);
  expect(await refusal(h3.overlay("withdraw"))).toMatch(/no agent runs.*overlay-ts leave/s);
  expect(await pings(h3, "c3", await addressOf(h1, "c1", "app"))).toBe(3);
  await h3.overlay("leave", "--force");
  await expectNothing(h3);
  startAgent(h3, true);
  await eventually(30_000, "the agent", async () =>
    expect(await h3.statusText()).toMatch(/not joined/),
  );
});

test("a removed host does what it is told, and its containers are named that are to be connected again", async () => {
  await joinAgain();
  await h3.docker("network", "connect", "app", "c3");
  await h1.overlay("node", "rm", "h3");
  const { removed } = await eventually(60_000, "the controller's word", async () => {
    const found = await h3.status();
    expect(found.removed).toBeDefined();
    return found;
  });
  expect(removed?.next).toMatch(/leave --force/);
  const said = await h3.overlay("leave", "--force");
  expect(said).not.toMatch(/^Remove it/m);
  const token = (await h1.overlay("token", "create", "--uses", "1")).trim();
  await h3.overlay("join", "--token", token, "198.51.100.1");
  await h3.waitForNetwork("app");
  await eventually(30_000, "what is to be done", async () =>
    expect(await h3.statusText()).toMatch(/c3.*docker network connect app c3/),
  );
  await h3.docker("network", "connect", "app", "c3");
  await eventually(30_000, "nothing to be done", async () =>
    expect(await h3.statusText()).not.toContain("docker network connect"),
  );
  await reaches(h3, "c3", await addressOf(h1, "c1", "app"));
});

test("a host whose address changes: Docker is told why, containers stay, and nobody gets the old address", async () => {
  await h1.docker(...OURS, "-o", "encryption=wireguard", "closed");
  for (const host of [h1, h2]) {
    await host.waitForNetwork("closed");
    await host.docker("network", "connect", "closed", host === h1 ? "c1" : "c2");
  }
  const own = await Promise.all(["app", "closed"].map((name) => addressOf(h2, "c2", name)));
  const expectPings = async (): Promise<void> => {
    for (const [i, network] of ["app", "closed"].entries())
      await eventually(60_000, `both ways on ${network}`, async () => {
        expect(await pings(h2, "c2", await addressOf(h1, "c1", network))).toBe(3);
        expect(await pings(h1, "c1", own[i] ?? "")).toBe(3);
      });
  };
  await expectPings();
  const running = await h2.docker("inspect", "-f", "{{.State.StartedAt}}", "c2");
  // In this order: with a link's first address the kernel takes the others of its subnet away.
  await h2.exec("ip", "address", "del", "198.51.100.2/24", "dev", "eth0");
  await h2.exec("ip", "address", "add", "198.51.100.52/24", "dev", "eth0");
  const said = /198\.51\.100\.2 is on none of its interfaces/;
  await eventually(30_000, "the word of it", async () =>
    expect(await refusal(h2.statusText())).toMatch(said),
  );
  expect(await refusal(h2.docker("run", "--rm", "--network", "app", IMAGE, "/bin/true"))).toMatch(
    said,
  );
  const stateOfC2 = async (): Promise<string | undefined> => {
    const [{ names }] = JSON.parse(await h1.overlay("names", "app", "--json")) as [
      { names: { name: string; state: string }[] },
    ];
    return names.find(({ name }) => name === "c2")?.state;
  };
  await eventually(30_000, "the end of its names", async () =>
    expect(await stateOfC2()).toBe("unreachable"),
  );
  await h2.overlay("node", "readdress");
  const readdressedMs = performance.now();
  await eventually(20_000, "its names", async () => expect(await stateOfC2()).toBe("in"));
  const seconds = (performance.now() - readdressedMs) / 1000;
  console.info(`names of a host at another address: back after ${seconds.toFixed(1)} s`);
  await expectPings();
  expect(await Promise.all(["app", "closed"].map((name) => addressOf(h2, "c2", name)))).toEqual(
    own,
  );
  expect(await h2.docker("inspect", "-f", "{{.State.StartedAt}}", "c2")).toBe(running);

  await h3.overlay("leave", "--force");
  await h1.overlay("node", "rm", "h3");
  await h3.exec("ip", "address", "add", "198.51.100.2/24", "dev", "eth0");
  const token = (await h1.overlay("token", "create", "--uses", "1")).trim();
  const old = ["join", "--token", token, "--advertise-addr", "198.51.100.2", "198.51.100.1"];
  expect(await refusal(h3.overlay(...old))).toMatch(/was the address of host h2/);
});

test("a member's key on another machine is refused and changes nothing; `leave` deletes it, or `--replace` takes over", async () => {
  const keyOf = (host: LabHost): string => join(host.directory, "data/agent/identity.key");
  const hosts = async (): Promise<unknown> => {
    const nodes = JSON.parse(await h1.overlay("node", "ls", "--json")) as Record<string, unknown>[];
    return nodes.map(({ id, name, address }) => ({ id, name, address }));
  };
  const before = await hosts();
  const token = (await h1.overlay("token", "create")).trim();
  const command = ["join", "--token", token, "--advertise-addr", "198.51.100.3", "198.51.100.1"];
  copyFileSync(keyOf(h2), keyOf(h3));
  expect(await refusal(h3.overlay(...command))).toMatch(
    /identity of host h2 is in use on another machine; was this machine cloned\?\n.*`overlay-ts leave` here/s,
  );
  expect(await hosts()).toEqual(before);
  expect(await h3.overlay("leave")).toMatch(/was no member; its key is deleted/);
  expect(existsSync(keyOf(h3))).toBe(false);

  // Its machine is gone, and its disk is in another one.
  await h2.stopService("agent", "KILL");
  copyFileSync(keyOf(h2), keyOf(h3));
  await h3.overlay(...command, "--replace");
  const { node } = await h3.status();
  const replaced = expect.objectContaining({ id: node, address: "198.51.100.3" });
  await eventually(30_000, "the host in its place", async () =>
    expect(await hosts()).toEqual([expect.anything(), replaced]),
  );
});

test("the controller's host without an agent: leaves by force alone, and the controller goes on", async () => {
  await h1.stopService("agent", "TERM");
  expect(await refusal(h1.overlay("leave"))).toMatch(
    /the cluster's controller is on this host.*give --force/s,
  );
  expect(existsSync(join(h1.directory, "data/agent/membership.json"))).toBe(true);
  expect(await h1.overlay("leave", "--force")).toMatch(
    /This host has left.*docker network connect app c1/s,
  );
  // c1 runs on, and was on an encrypted network: what it sends there now does not leave in clear.
  await expectNothing(h1, "overlay_ts_left");
  expect(existsSync(join(h1.directory, "data/agent/membership.json"))).toBe(false);
  // Its record keeps its own host, and it decides as before.
  await eventually(30_000, "its answer", () => h3.overlay("network", "create", "more"));
  expect(await h3.overlay("node", "ls")).toMatch(/^h1 /m);
});
