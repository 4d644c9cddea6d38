import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { NameRow } from "../../agent/core/names/name-rows.ts";
import type { Event, Told } from "../../agent/events/event-log.ts";
import { listed } from "../../agent/cli/listing.ts";
import { namesListing } from "../../agent/cli/names-commands.ts";
import { localRoutes } from "../../agent/api/routes.ts";
import type { NetworkRecord } from "../../shared/cluster-state.ts";
import type { Endpoint } from "../../shared/documents.ts";
import { DockerNetworkId, EndpointId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import { ruleMac } from "../../shared/mac.ts";
import { callUnix, linesUnix, UnixHttpServer } from "../../shared/node/unix-http.ts";
import { failOnCrashes } from "../support/crashes.ts";
import { type Ended, overlayTs } from "../support/command-line.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../support/fake-host.ts";
import { createNetwork, done, NETWORK, until } from "../support/plugin-bodies.ts";

/** Three hosts: `app` is on h1 and h2, and h3 has no container on it. */

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-names-"));
const HEAD = "NETWORK  NAME  ADDRESS  HOST  CONTAINER  STATE";
const never = new AbortController().signal;
let cluster: FakeCluster;
let app: NetworkRecord;
let servers: UnixHttpServer[];

const runDirectory = (k: number): string => join(directory, `run${k}`);
const socket = (k: number): string => join(runDirectory(k), "agent.sock");
const host = (k: number): FakeHost => cluster.hosts[k - 1]!;
const id = (k: number, n: number): EndpointId => EndpointId.parse(`${k}${n}`.padEnd(64, "a"));

beforeAll(async () => {
  cluster = await fakeCluster(3, directory);
  servers = cluster.hosts.map(
    ({ agent, plugin }, i) =>
      new UnixHttpServer(
        socket(i + 1),
        localRoutes(
          () => agent,
          () => ({ state: "member" }),
          () => plugin.counts(),
        ),
      ),
  );
  for (const server of servers) await server.start();
  app = await callUnix<NetworkRecord>(socket(1), "POST", "/v1/networks", {
    name: "app",
    subnet: "10.7.0.0/16",
    options: { "dns.unhealthy": "leave-out" },
  });
  await until(() =>
    cluster.hosts.every(({ agent }) => agent.localNetworks.find(app.id) !== undefined),
  );
});

afterAll(async () => {
  for (const server of servers) await server.stop();
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** A container of host `k`, as Docker's calls and Docker's names put it. */
async function put(k: number, n: number, changes: Partial<Endpoint>): Promise<Ip> {
  const { ipam, localNetworks, replication } = host(k).agent;
  const ipv4 = Ip.parse(`10.7.${k}.${n}`);
  await ipam.claim(app, ipv4, never);
  await localNetworks.enter(app.id);
  localNetworks.put(app.id, { id: id(k, n), ipv4, mac: ruleMac(ipv4), ...changes });
  await replication.completed(app.id, 5000);
  return ipv4;
}

async function names(k: number, query = "?network=app"): Promise<NameRow[]> {
  const [found] = await callUnix<{ names: NameRow[] }[]>(socket(k), "GET", `/v1/names${query}`);
  return found?.names ?? [];
}

async function kept(k: number, query = ""): Promise<Event[]> {
  const found: Event[] = [];
  for await (const told of linesUnix<Told>(socket(k), `/v1/events${query}`))
    if (told.kind !== "missed") found.push(told);
  return found;
}

const run = (k: number, ...args: string[]): Promise<Ended> =>
  overlayTs(runDirectory(k), args).ended;

describe("names on other hosts", () => {
  test("are shown with their holders, and why one is out", async () => {
    await put(1, 5, { names: ["web-1", "web", "0123456789ab"] });
    await put(2, 6, { names: ["web-2", "web"], out: "unhealthy" });
    await put(2, 7, { names: ["db"] });
    await until(async () => (await names(1)).length === 6 && (await names(2)).length === 6);
    expect(
      (await names(1)).map(({ name, ips, host, container, state, shortId }) => [
        name,
        ips,
        host,
        container,
        state,
        shortId,
      ]),
    ).toEqual([
      ["0123456789ab", ["10.7.1.5"], "h1", "web-1", "in", true],
      ["db", ["10.7.2.7"], "h2", "db", "in", false],
      ["web", ["10.7.1.5"], "h1", "web-1", "in", false],
      ["web", ["10.7.2.6"], "h2", "web-2", "unhealthy", false],
      ["web-1", ["10.7.1.5"], "h1", "web-1", "in", false],
      ["web-2", ["10.7.2.6"], "h2", "web-2", "unhealthy", false],
    ]);
    expect(await names(2, "")).toEqual(await names(1));
  });

  test("as a table, without short ids unless asked for", async () => {
    const { status, out } = await run(1, "names");
    expect(status).toBe(0);
    expect(out.split("\n").map((line) => line.split(/ {2,}/))).toEqual([
      ["NETWORK", "NAME", "ADDRESS", "HOST", "CONTAINER", "STATE"],
      ["app", "db", "10.7.2.7", "h2", "db", "in"],
      ["app", "web", "10.7.1.5", "h1", "web-1", "in"],
      ["app", "web", "10.7.2.6", "h2", "web-2", "unhealthy"],
      ["app", "web-1", "10.7.1.5", "h1", "web-1", "in"],
      ["app", "web-2", "10.7.2.6", "h2", "web-2", "unhealthy"],
      [""],
    ]);
    expect((await run(1, "names", "app", "--all")).out).toMatch(/app +0123456789ab +10\.7\.1\.5/);
    const [json] = JSON.parse((await run(1, "names", "--json")).out) as { names: NameRow[] }[];
    expect(json?.names).toEqual((await names(1)).filter(({ shortId }) => !shortId));
    const vip = { network: "app", name: "api", ips: [Ip.parse("10.7.0.9")], members: 2, ready: 1 };
    const vips = [{ ...vip, sticky: false, madeBy: "cli" as const }];
    const found = [{ network: "app", here: true, hosts: [], names: await names(1), vips }];
    const listing = namesListing(found, true);
    expect(listing.json(listing.rows)).toEqual(found);
    expect(listed(listing, {}, false)).toMatch(
      /^app +api +10\.7\.0\.9 +- +\(virtual\) +1\/2 ready$/m,
    );
    expect(listed(namesListing(found, false), { filter: ["state=in"], quiet: true }, false)).toBe(
      "db\nweb\nweb-1",
    );
  });

  test("a host that is not on the network says who is", async () => {
    const { status, out } = await run(3, "names", "app");
    expect([status, out]).toEqual([
      0,
      `${HEAD}\n\nthis host is not on app and knows no names of it; h1, h2 are\n`,
    ]);
    expect((await run(3, "names")).out).toBe(`${HEAD}\n`);
  });

  test("an unknown network", async () => {
    const { status, said } = await run(1, "names", "ap");
    expect([status, said]).toEqual([
      5,
      "overlay-ts: the cluster has no network ap\n  → see `overlay-ts network ls`\n",
    ]);
    expect((await run(1, "events", "--network", "ap")).status).toBe(5);
    expect((await run(1, "network", "inspect", "ap")).status).toBe(5);
  });

  test("network inspect has names, members and options", async () => {
    const found = JSON.parse((await run(2, "network", "inspect", "app")).out) as Record<
      string,
      unknown
    >;
    expect(found).toMatchObject({
      name: "app",
      unhealthyNames: "leave-out",
      driverOptions: { "dns.unhealthy": "leave-out" },
      here: true,
      hosts: expect.arrayContaining(["h1", "h2"]) as unknown,
      names: {
        db: [{ ips: ["10.7.2.7"], host: "h2", container: "db", endpoint: id(2, 7), state: "in" }],
        web: [
          { host: "h1", state: "in" },
          { host: "h2", state: "unhealthy" },
        ],
      },
    });
    expect(found["members"]).toContainEqual({
      host: "h2",
      endpoint: id(2, 6),
      role: "container",
      ips: ["10.7.2.6"],
      mac: ruleMac(Ip.parse("10.7.2.6")),
      names: ["web-2", "web"],
      state: "unhealthy",
      out: "unhealthy",
    });
    const elsewhere = JSON.parse((await run(3, "network", "inspect", "app")).out) as object;
    expect(elsewhere).toMatchObject({ here: false, names: {}, members: [], hosts: ["h1", "h2"] });
  });

  test("one that breaks a rule is shown with the rule", async () => {
    const { localNetworks } = host(2).agent;
    const ipv4 = Ip.parse("10.7.99.9");
    localNetworks.put(app.id, { id: id(2, 8), ipv4, mac: ruleMac(ipv4), names: ["liar"] });
    await until(async () => (await names(1)).some(({ name }) => name === "liar"));
    expect((await names(1)).find(({ name }) => name === "liar")?.state).toBe("not-in-block");
    const line = /app {2}liar {2}out {2}not-in-block: 10\.7\.99\.9 on h2\n/;
    await until(async () => line.test((await run(1, "events")).out));
    localNetworks.remove(app.id, id(2, 8));
    await until(async () => (await names(1)).every(({ name }) => name !== "liar"));
  });
});

test("a host that is not reached: its names are out, and it is told once", async () => {
  const { agent } = host(1);
  const lost = new Set([host(2).agent.identity.node]);
  const [altogether, through] = [
    vi.spyOn(agent.reach, "lost").mockReturnValue(lost),
    vi.spyOn(agent.reach, "lostThrough").mockReturnValue(lost),
  ];
  agent.eventSource.dirty();
  const line = /-  h2  unreachable  out on app: db\n/;
  await until(async () => line.test((await run(1, "events", "--network", "app")).out));
  expect((await names(1)).filter(({ state }) => state === "in").map(({ host }) => host)).toEqual([
    "h1",
    "h1",
    "h1",
  ]);
  expect((await run(1, "names", "app")).out).toMatch(/app +db +10\.7\.2\.7 +h2 +db +unreachable\n/);
  altogether.mockRestore();
  through.mockRestore();
  agent.eventSource.dirty();
  await until(async () => (await kept(1)).at(-1)?.kind === "host-back");
});

test("status says what is wrong with names, and nothing else of them", async () => {
  const told = await callUnix<object>(socket(1), "GET", "/v1/status");
  const sandboxes = { waiting: 1, serving: 11, failed: 2 };
  const saying = async (names: object | undefined): Promise<string> => {
    const served = new UnixHttpServer(join(directory, "status/agent.sock"), {
      "GET /v1/status": async () => ({ ...told, names }),
    });
    await served.start();
    const { out } = await overlayTs(join(directory, "status"), ["status"]).ended;
    await served.stop();
    // The first line is the verdict on all of it.
    const [verdict = "", ...rest] = out.split("\n");
    expect(verdict.includes("names of other hosts")).toBe(rest.join().includes("not served"));
    return rest.join("\n");
  };
  const without = await saying(undefined);
  expect(without).not.toMatch(/names/);
  expect(await saying({ counters: { answered: 7 }, sandboxes })).toBe(without);
  expect(await saying({ counters: {}, sandboxes, lastProblem: "EPERM" })).toBe(
    `${without}\nnames of other hosts are not served in 2 of 14 containers: EPERM\n`,
  );
  const gone = { counters: {}, sandboxes: { waiting: 0, serving: 0, failed: 0 } };
  expect(await saying({ ...gone, lastProblem: "the worker has gone" })).toBe(
    `${without}\nnames of other hosts are not served: the worker has gone\n`,
  );
});

describe("events", () => {
  test("of another host's container, as they happen", async () => {
    const events = linesUnix<Event>(socket(1), "/v1/events?follow=true&sinceMs=0&network=app");
    const heard: string[] = [];
    const listening = (async () => {
      for await (const event of events) {
        // What the test before did may come late.
        if (!("names" in event) || event.names[0] !== "cache") continue;
        heard.push("state" in event ? `${event.kind} ${event.state}` : event.kind);
        if (event.kind === "gone") return event;
      }
      return undefined;
    })();
    await until(() => host(1).agent.events.counters()["followers"] === 1);
    const heardBy = (what: string): Promise<void> => until(() => heard.at(-1) === what);
    await put(2, 20, { names: ["cache"], out: "starting" });
    await heardBy("out starting");
    await put(2, 20, { names: ["cache"] });
    await heardBy("in in");
    await put(2, 20, { names: ["cache", "redis"] });
    await heardBy("changed in");
    host(2).agent.localNetworks.remove(app.id, id(2, 20));
    const gone = await listening;
    expect(heard).toEqual(["out starting", "in in", "changed in", "gone"]);
    expect(gone).toMatchObject({
      kind: "gone",
      network: "app",
      id: app.id,
      host: "h2",
      names: ["cache", "redis"],
      ips: ["10.7.2.20"],
    });
    // Who ended takes no place.
    await until(() => host(1).agent.events.counters()["followers"] === 0);
  });

  test("are lines for people", async () => {
    const lines = (await run(1, "events")).out.trimEnd().split("\n");
    const told = lines.map((line) => line.split("  "));
    for (const [at] of told) expect(at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const texts = told.map((parts) => parts.slice(1).join("  "));
    expect(texts).toContain("-  agent  started");
    expect(texts).toContain("app  -  appeared");
    expect(texts).toContain("app  -  here  this host is on it");
    expect(texts).toContain("app  web-1  in  10.7.1.5 on h1, also web");
    expect(texts).toContain("app  web-2  out  unhealthy: 10.7.2.6 on h2, also web");
    expect(texts).toContain("app  cache  gone  10.7.2.20 on h2, also redis");
  });

  test("a host that is not on the network hears of the network, not of its names", async () => {
    const kinds = (await kept(3, "?network=app")).map(({ kind }) => kind);
    expect(kinds).toEqual(["network-appeared"]);
  });

  test("as JSON, one a line, numbered", async () => {
    const { out } = await run(1, "events", "--json", "--since", "1h");
    const events = out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Event);
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, i) => i + 1));
    expect(events).toEqual(await kept(1));
  });

  test("of a network that has ended", async () => {
    const old = await callUnix<NetworkRecord>(socket(1), "POST", "/v1/networks", { name: "old" });
    await until(() => host(1).agent.localNetworks.find(old.id) !== undefined);
    await until(() => host(1).agent.events.knows((event) => "id" in event && event.id === old.id));
    await callUnix(socket(1), "DELETE", "/v1/networks?name=old");
    const ended = async (): Promise<string[]> =>
      (await kept(1, "?network=old")).map(({ kind }) => kind);
    await until(async () => (await ended()).includes("network-ended"));
    expect(await ended()).toEqual(["network-appeared", "network-ended"]);
  });

  test("of a network from before Docker had told its name", async () => {
    const { agent } = host(1);
    const pools = [{ AddressSpace: "LocalDefault", Pool: "10.9.0.0/24", Gateway: "10.9.0.1/24" }];
    await done(host(1), "NetworkDriver.CreateNetwork", createNetwork({ pools }));
    const network = agent.bindings.network(DockerNetworkId.parse(NETWORK))!;
    await until(() => agent.events.knows((event) => "id" in event && event.id === network));
    const naming = { labels: {}, attachable: true, dockerRanges: [] };
    const request = { v: 1, kind: "nameNetwork", network, name: "late", ...naming } as const;
    await agent.controller.request(request, "network");
    await until(async () => (await kept(1)).at(-1)?.kind === "network-named");
    expect((await kept(1, "?network=late")).map(({ kind }) => kind)).toEqual([
      "network-appeared",
      "network-named",
    ]);
  });

  test("a kernel that refuses, and one that does so no more", async () => {
    const { kernel, agent } = host(1);
    const apply = vi.spyOn(kernel, "apply").mockRejectedValue(new Error("no space"));
    await put(1, 30, { names: ["late"] });
    const problems = async (): Promise<unknown[]> =>
      (await kept(1)).filter(({ kind }) => kind === "problem" || kind === "recovered");
    await until(async () => (await problems()).length === 1);
    apply.mockRestore();
    await until(async () => (await problems()).length === 2);
    expect(await problems()).toMatchObject([
      { kind: "problem", what: "kernel", network: "app", message: "no space" },
      { kind: "recovered", what: "kernel", network: "app" },
    ]);
    agent.localNetworks.remove(app.id, id(1, 30));
  });

  test("a view that was removed here", async () => {
    const { agent } = host(1);
    agent.bindings.markRemoved(app.id);
    const told = async (): Promise<string[]> =>
      (await kept(1, "?network=app")).map(({ kind }) => kind);
    await until(async () => (await told()).includes("network-removed"));
    agent.bindings.clearRemoved(app.id);
    await until(async () => (await told()).at(-1) === "network-put-back");
  });

  test("whoever follows is told when the agent ends", async () => {
    const { ended, child } = overlayTs(runDirectory(3), ["events", "-f", "--since", "1h"]);
    const first = new Promise((resolve) => child.stdout?.once("data", resolve));
    await first;
    host(3).agent.events.end();
    const { status, out, said } = await ended;
    expect(out).toMatch(/app {2}- {2}appeared/);
    expect([status, said]).toEqual([
      4,
      "overlay-ts: the agent has ended, and its events with it\n  → when it runs again, run the command again\n",
    ]);
  });
});
