import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { vipRoutes } from "../../../agent/api/vips.ts";
import { type AskedVip, VipRequests } from "../../../agent/balancing/vip-requests.ts";
import type { SandboxId } from "../../../agent/names/server/port.ts";
import { listed } from "../../../agent/cli/listing.ts";
import { vipListing } from "../../../agent/cli/vip-commands.ts";
import type { VipList } from "../../../agent/api/vips.ts";
import type { Endpoint } from "../../../shared/documents.ts";
import { EndpointId, type NetworkId } from "../../../shared/ids.ts";
import { Ip } from "../../../shared/ip.ts";
import { ruleMac } from "../../../shared/mac.ts";
import { silentLog } from "../../../shared/ports.ts";
import { failOnCrashes } from "../../support/crashes.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { PATIENT } from "../../support/patient.ts";
import { createNetwork, ENDPOINT, endpointBody, joinNetwork } from "../../support/plugin-bodies.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-services-"));
const SANDBOX = "1a2b3c4d5e6f" as SandboxId;
let cluster: FakeCluster;
let h1: FakeHost;
let h2: FakeHost;
let network: NetworkId;

/** A network made on h1, with a container there that asks; its address is 10.7.0.9. */
beforeEach(async () => {
  cluster = await fakeCluster(2, directory);
  [h1, h2] = cluster.hosts as [FakeHost, FakeHost];
  network = await joinNetwork(h1, SANDBOX);
  const named = {
    kind: "nameNetwork",
    network,
    name: "app",
    labels: {},
    attachable: true,
  } as const;
  await h1.agent.controller.request({ v: 1, ...named }, "network");
  say(["client", "web"]);
});

afterEach(() => cluster.stop());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** What Docker says of the container. */
function say(names: readonly string[], out?: string): void {
  const { localNetworks } = h1.agent;
  const [own] = localNetworks.endpoints(network) as [Endpoint];
  const { out: _, ...rest } = own;
  localNetworks.amend(network, [{ ...rest, names: [...names], ...(out && { out }) }]);
}

const routes = (host: FakeHost) => vipRoutes(() => host.agent);
const call = (host: FakeHost, what: string, query: Record<string, string>, body?: unknown) => {
  const url = new URL(`http://agent${what.split(" ")[1]}`);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  return routes(host)[what]!(url.searchParams, body, new AbortController().signal);
};
const vips = () => h1.agent.replication.tables.state?.vips ?? [];
const members = () =>
  h1.balancing.told
    .get(network)
    ?.flatMap((one) => one.members.map(({ ipv4, state }) => [ipv4, state]));

async function add(name: string): Promise<Ip> {
  const { vip } = await h1.agent.controller.request(
    { v: 1, kind: "addVip", network, name, sticky: false, madeBy: "cli" },
    "vip",
  );
  return vip.ips[0]!;
}

test("a name answers its virtual address when the container's table is written, not before", async () => {
  h1.balancing.writes = false;
  const vip = await add("web");
  await expect.poll(members, PATIENT).toEqual([["10.7.0.9", "ready"]]);
  expect(h1.names.ask(SANDBOX, "web")).toEqual(["10.7.0.9"]);
  h1.balancing.write();
  await expect.poll(() => h1.names.ask(SANDBOX, "web"), PATIENT).toEqual([vip]);
  expect(h1.names.ask(SANDBOX, "tasks.web")).toEqual(["10.7.0.9"]);
  say(["client", "web"], "stopping");
  await expect.poll(members, PATIENT).toEqual([["10.7.0.9", "draining"]]);
  expect(h1.names.ask(SANDBOX, "web")).toEqual([vip]);
  const removed = { v: 1, kind: "removeVip", network, name: "web" } as const;
  await h1.agent.controller.request(removed, "done");
  await expect.poll(members, PATIENT).toBeUndefined();
  say(["client", "web"]);
  await expect.poll(() => h1.names.ask(SANDBOX, "web"), PATIENT).toEqual(["10.7.0.9"]);
});

test("a member that is gone is one no more, and its address is said to be gone", async () => {
  await add("web");
  await h2.call("NetworkDriver.CreateNetwork", createNetwork());
  const ipv4 = Ip.parse("10.7.0.77");
  const other: Endpoint = {
    id: EndpointId.parse("ab".repeat(32)),
    ipv4,
    mac: ruleMac(ipv4),
    names: ["w2", "web"],
  };
  const grant = { v: 1, kind: "grantAddress", network, ip: ipv4 } as const;
  await h1.agent.controller.request(grant, "block");
  h1.agent.localNetworks.put(network, other);
  await expect.poll(() => members()?.length, PATIENT).toBe(2);
  h1.agent.localNetworks.remove(network, other.id);
  await expect.poll(members, PATIENT).toEqual([["10.7.0.9", "ready"]]);
  expect(h1.balancing.told.get(network)?.[0]?.gone).toEqual([{ ipv4, ipv6: undefined }]);
});

test("an agent that starts again tells of all containers and services", async () => {
  const vip = await add("web");
  await expect.poll(() => h1.names.ask(SANDBOX, "web"), PATIENT).toEqual([vip]);
  const { next, names } = await h1.restarted();
  await expect.poll(() => names.ask(SANDBOX, "web"), PATIENT).toEqual([vip]);
  await next.stop();
});

test("a container that ends has its table taken away", async () => {
  await add("web");
  await expect.poll(() => h1.balancing.clients().length, PATIENT).toBe(1);
  await h1.call("NetworkDriver.Leave", endpointBody(ENDPOINT));
  await expect.poll(() => h1.balancing.clients(), PATIENT).toEqual([]);
});

test("what labels ask for is had once, refused with what can be done, and ends ten minutes after its last holder", async () => {
  let wishes: AskedVip[] = [];
  let nowMs = 0;
  const requests = new VipRequests({
    self: h1.agent.identity.node,
    tables: h1.agent.replication.tables,
    controller: h1.agent.controller,
    wishes: () => wishes,
    lost: () => new Set(),
    clock: { nowMs: () => nowMs },
    log: silentLog,
    failureChanged: () => {},
  });
  const wish = { network, sticky: true, madeBy: "label" as const };
  wishes = [
    { ...wish, name: "web" },
    { ...wish, name: "web" },
  ];
  requests.soon();
  requests.soon();
  await expect.poll(vips, PATIENT).toMatchObject([{ name: "web", sticky: true, madeBy: "label" }]);
  const { revision } = h1.agent.replication.tables.state!;
  requests.check();
  wishes = [{ ...wish, name: "not a label" }];
  requests.soon();
  await expect
    .poll(() => requests.failure()?.message, PATIENT)
    .toMatch(/not a label has no virtual/);
  expect(requests.failure()?.next).toMatch(/63 letters/);
  expect(h1.agent.replication.tables.state?.revision).toBe(revision);
  wishes = [];
  requests.soon();
  await expect.poll(() => requests.failure(), PATIENT).toBeUndefined();
  // Held, whoever asked for it.
  for (let i = 0; i < 3; i++, nowMs += 600_000) requests.check();
  say(["client"]);
  requests.check();
  nowMs += 599_999;
  requests.check();
  await h1.quiet();
  expect(vips()).toHaveLength(1);
  nowMs += 1;
  requests.check();
  await expect.poll(vips, PATIENT).toEqual([]);
});

const vipText = (found: VipList): string => listed(vipListing(found), {}, false);

test("the commands add, list and end them, on any host", async () => {
  await h2.agent.controller.refresh();
  const added = (await call(h2, "POST /v1/vips", {}, { network: "app", name: "web" })) as VipList;
  expect(added.vips).toMatchObject([{ network: "app", name: "web", madeBy: "cli", sticky: false }]);
  await h1.agent.controller.refresh();
  const list = (await call(h1, "GET /v1/vips", { network: "app" })) as VipList;
  expect(list.vips).toMatchObject([{ members: 1, ready: 1 }]);
  expect(vipText(list)).toMatch(/^NETWORK.*\napp {6}web {3}10\.7\.0\.\d+ +1\/1 +no +cli$/);
  const old = { ...list, without: ["h2"] };
  expect(vipText(old)).toMatch(/upgrade overlay-ts on h2$/);
  const elsewhere = (await call(h2, "GET /v1/vips", {})) as VipList;
  expect(vipText(elsewhere)).toMatch(/ \? /);
  await call(h2, "DELETE /v1/vips", { network: "app", name: "web" });
  await expect(call(h2, "DELETE /v1/vips", { network: "app", name: "web" })).rejects.toMatchObject({
    code: "NOT_FOUND",
  });
});
