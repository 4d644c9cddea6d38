import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { SandboxId } from "../../../agent/names/server/port.ts";
import { problemsOf } from "../../../agent/events/view-sources.ts";
import type { Outside } from "../../../agent/core/names/inside.ts";
import { type Endpoint, familiesOf } from "../../../shared/documents.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { EndpointId, type NetworkId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { ruleMac } from "../../../shared/mac.ts";
import { failOnCrashes } from "../../support/crashes.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { ENDPOINT, endpointBody, joinNetwork } from "../../support/plugin-bodies.ts";
import { PATIENT } from "../../support/patient.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-resolving-"));
const SANDBOX = "1a2b3c4d5e6f" as SandboxId;
let cluster: FakeCluster;
let h1: FakeHost;
let h2: FakeHost;
let network: NetworkId;

/** A network made on h1, with a container there that asks. */
beforeEach(async () => {
  cluster = await fakeCluster(2, directory);
  [h1, h2] = cluster.hosts as [FakeHost, FakeHost];
  network = await joinNetwork(h1, SANDBOX);
});

afterEach(() => cluster.stop());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("a container whose names are not served is a line in status with what to do, until it is served", async () => {
  const server = h1.names;
  const { nameServerFeed } = h1.agent;
  const problems = (): string[] =>
    problemsOf(h1.agent).map(({ what, message, next }) => `${what}: ${message} (${next})`);
  server.refuses = new OverlayError({ code: "FULL", message: "no room", next: "run fewer" });
  await nameServerFeed.join({
    endpoint: EndpointId.parse(ENDPOINT),
    network,
    path: `/run/docker/netns/${SANDBOX}`,
  });
  await nameServerFeed.serveAgain();
  expect(problems()).toEqual([
    `name server: names are not served in sandbox ${SANDBOX}: no room (run fewer)`,
  ]);
  server.refuses = undefined;
  await nameServerFeed.serveAgain();
  expect(problems()).toEqual([]);
});

test("one that Docker has, and that a full disk does not take, is found again, and ends nobody", async () => {
  const { nameServerFeed } = h1.agent;
  const path = `/run/docker/netns/${SANDBOX}`;
  const joined = { endpoint: EndpointId.parse(ENDPOINT), network, path };
  await nameServerFeed.leave(joined.endpoint);
  h1.store.full = true;
  nameServerFeed.found(joined);
  await new Promise((resolve) => setImmediate(resolve));
  expect(nameServerFeed.hasJoined(joined.endpoint)).toBe(false);
  h1.store.full = false;
  nameServerFeed.found(joined);
  await expect.poll(() => nameServerFeed.hasJoined(joined.endpoint)).toBe(true);
});

/** A container of the host, by another way than Docker. */
async function put(
  host: FakeHost,
  digit: string,
  names: string[],
  out?: string,
  moreNames?: string[],
): Promise<Endpoint> {
  await expect.poll(() => host.agent.localNetworks.find(network)).toBeDefined();
  const record = host.agent.localNetworks.record(network);
  const ips = await host.agent.ipam.allot(record, AbortSignal.timeout(5000));
  await host.agent.localNetworks.enter(network);
  const [first] = ips as [Ip];
  const id = EndpointId.parse(digit.repeat(64));
  const said = {
    ...(out === undefined ? {} : { out }),
    ...(moreNames === undefined ? {} : { moreNames }),
  };
  const endpoint: Endpoint = { id, ...familiesOf(ips), mac: ruleMac(first), names, ...said };
  host.agent.localNetworks.put(network, endpoint);
  return endpoint;
}

const ask = (name: string): string[] | undefined => h1.names.ask(SANDBOX, name);

describe("what a container hears", () => {
  test("another host's container by its name, until it is gone", async () => {
    const { id, ipv4 } = await put(h2, "b", ["db"]);
    await expect.poll(() => ask("db")).toEqual([ipv4]);
    h2.agent.localNetworks.remove(network, id);
    await expect.poll(() => ask("db")).toEqual([]);
    expect(h1.agent.nameServerFeed.gone(network)).toMatchObject([{ names: ["db"], out: "gone" }]);
  });

  test("another container's new name and its health, of which the kernels are not asked", async () => {
    const endpoint = await put(h2, "b", ["db"]);
    await expect.poll(() => ask("db")).toEqual([endpoint.ipv4]);
    for (const host of [h1, h2]) {
      // What stood there before may go now: that is a pass of its own.
      await expect.poll(() => host.agent.replication.standing(network).inSync).toBe(true);
      await host.quiet();
    }
    const passes = () => [h1, h2].map(({ agent }) => agent.reconciler.status(network)?.passes);
    const before = passes();
    h2.agent.localNetworks.amend(network, [{ ...endpoint, names: ["db", "pg"] }]);
    await expect.poll(() => ask("pg")).toEqual([endpoint.ipv4]);
    h2.agent.localNetworks.amend(network, [{ ...endpoint, names: ["pg"], out: "paused" }]);
    await expect.poll(() => ask("pg")).toEqual([]);
    expect(passes()).toEqual(before);
  });

  test("nobody for a name that is gone from here a moment ago, two minutes later Docker's answer", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    try {
      await vi.waitFor(() => expect(ask("own")).toBeUndefined(), PATIENT);
      const { id } = await put(h1, "c", ["own"]);
      await vi.waitFor(() => expect(ask("own")).toHaveLength(1), PATIENT);
      h1.agent.localNetworks.remove(network, id);
      await vi.waitFor(() => expect(ask("own")).toEqual([]), PATIENT);
      await vi.advanceTimersByTimeAsync(119_000);
      expect(ask("own")).toEqual([]);
      await vi.advanceTimersByTimeAsync(1500);
      await vi.waitFor(() => expect(ask("own")).toBeUndefined(), PATIENT);
    } finally {
      vi.useRealTimers();
    }
  });

  test("all names of another host's container, however many a document of 0.1.0 takes", async () => {
    const many = Array.from({ length: 62 }, (_, k) => `a${k}`);
    const { ipv4 } = await put(h2, "b", many.slice(0, 32), undefined, many.slice(32));
    for (const name of many) await expect.poll(() => ask(name)).toEqual([ipv4]);
  });

  test("itself, also while it is in no answer for others", async () => {
    const endpoint = h1.agent.localNetworks.endpoints(network).find(({ id }) => id === ENDPOINT)!;
    const names = ["me", "my.host"];
    h1.agent.localNetworks.amend(network, [{ ...endpoint, names, out: "starting" }]);
    for (const name of names) await expect.poll(() => ask(name)).toEqual(["10.7.0.9"]);
    expect(h1.names.ask(SANDBOX, "9.0.7.10.in-addr.arpa", "PTR")).toEqual(["me"]);
  });

  test("what it is linked to, on whatever host that is, and after the agent started again", async () => {
    const { ipv4 } = await put(h2, "b", ["lv"]);
    await put(h2, "d", ["other", "db"]);
    const outside = { wayOut: false, resolvers: false, others: [] };
    h1.agent.nameServerFeed.inside(EndpointId.parse(ENDPOINT), { links: { db: "lv" }, outside });
    await expect.poll(() => ask("db")).toEqual([ipv4]);
    const { next, names } = await h1.restarted();
    expect(names.ask(SANDBOX, "db")).toEqual([ipv4]);
    await next.stop();
  });

  test("one that is unhealthy is known and not given", async () => {
    await put(h2, "b", ["db"], "unhealthy");
    await expect.poll(() => ask("db")).toEqual([]);
  });

  test("nothing, once it left; what it was on is not asked for again", async () => {
    await put(h2, "b", ["db"]);
    await h1.call("NetworkDriver.Leave", endpointBody());
    expect(h1.names.served.size).toBe(0);
  });

  test("the same after the agent started again", async () => {
    const { ipv4 } = await put(h2, "b", ["db"]);
    await expect.poll(() => ask("db")).toEqual([ipv4]);
    const { next, names } = await h1.restarted();
    expect(names.ask(SANDBOX, "db")).toEqual([ipv4]);
    await next.stop();
  });

  test("where Docker says that it is, when its Join was lost", async () => {
    const { ipv4 } = await put(h2, "b", ["db"]);
    await h1.agent.nameServerFeed.leave(EndpointId.parse(ENDPOINT));
    expect(ask("db")).toBeUndefined();
    const path = `/var/run/docker/netns/${SANDBOX}`;
    h1.agent.nameServerFeed.found({ endpoint: EndpointId.parse(ENDPOINT), network, path });
    await expect.poll(() => ask("db")).toEqual([ipv4]);
    // Of an endpoint that is gone nothing is believed.
    h1.agent.nameServerFeed.found({
      endpoint: EndpointId.parse("ab".repeat(32)),
      network,
      path: "/x/y",
    });
    expect(h1.agent.nameServerFeed.wanted()).toEqual([SANDBOX]);
  });

  test("nothing is served after the machine started again", async () => {
    await h1.plugin.stop();
    const next = await h1.rebooted();
    expect(h1.names.served.size).toBe(0);
    await next.stop();
  });

  test("a host whose kernel does not answer is left out", async () => {
    const { ipv4 } = await put(h2, "b", ["db"]);
    await expect.poll(() => ask("db")).toEqual([ipv4]);
    h1.unreachable.add("198.18.0.2");
    await expect.poll(() => ask("db"), { timeout: 10_000 }).toEqual([]);
    h1.unreachable.clear();
    await expect.poll(() => ask("db"), { timeout: 10_000 }).toEqual([ipv4]);
  });
});

describe("whom Docker's resolver is asked for on behalf of a container", () => {
  const closed = () => h1.names.served.get(SANDBOX)?.closed;
  const inside = (outside: Outside | undefined): void =>
    h1.agent.nameServerFeed.inside(EndpointId.parse(ENDPOINT), { links: {}, outside });
  const none: Outside = { wayOut: false, resolvers: false, others: [] };

  test("everybody, when a network of it leads out", async () => {
    expect(closed()).toBeUndefined();
    inside({ ...none, resolvers: true });
    expect(closed()).toBeUndefined();
  });

  test("on internal networks nobody, but by --dns and on Docker's own networks", async () => {
    const record = h1.agent.localNetworks.record(network);
    const find = vi
      .spyOn(h1.agent.localNetworks, "find")
      .mockReturnValue({ ...record, internal: true });
    h1.agent.nameServerFeed.inside(EndpointId.parse(ENDPOINT), {
      links: { a: "b" },
      outside: undefined,
    });
    await expect.poll(closed).toEqual({ resolvers: false, others: undefined });
    inside(none);
    await expect.poll(closed).toEqual({ resolvers: false, others: [] });
    inside({ ...none, others: ["near"], resolvers: true });
    await expect.poll(closed).toEqual({ resolvers: true, others: ["near"] });
    inside({ ...none, wayOut: true, others: ["bridge"] });
    await expect.poll(closed).toBeUndefined();
    inside(none);
    await expect.poll(closed).toEqual({ resolvers: false, others: [] });
    find.mockRestore();
  });
});
