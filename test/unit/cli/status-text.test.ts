import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { localRoutes } from "../../../agent/api/routes.ts";
import { ignoredText } from "../../../agent/cli/ignored-text.ts";
import type { IgnoredContainer } from "../../../agent/api/status.ts";
import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import type { Endpoint } from "../../../shared/documents.ts";
import { EndpointId } from "../../../shared/ids.ts";
import { Ip } from "../../../shared/ip.ts";
import { ruleMac } from "../../../shared/mac.ts";
import { callUnix, UnixHttpServer } from "../../../shared/node/unix-http.ts";
import { app, nodeId } from "../../support/cluster.ts";
import { overlayTs } from "../../support/command-line.ts";
import { failOnCrashes } from "../../support/crashes.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { until } from "../../support/plugin-bodies.ts";

/** What a person at h1 reads of networks, and of containers that break a rule. */

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-status-"));
const socket = join(directory, "agent.sock");
let cluster: FakeCluster;
let server: UnixHttpServer;
let network: NetworkRecord;

beforeAll(async () => {
  cluster = await fakeCluster(2, directory);
  const [h1] = cluster.hosts;
  server = new UnixHttpServer(
    socket,
    localRoutes(
      () => h1?.agent,
      () => ({ state: "member" }),
      () => h1?.plugin.counts(),
    ),
  );
  await server.start();
  network = await callUnix<NetworkRecord>(socket, "POST", "/v1/networks", {
    name: "app",
    subnet: "10.7.0.0/16",
  });
  await until(() =>
    cluster.hosts.every(({ agent }) => agent.localNetworks.find(network.id) !== undefined),
  );
});

afterAll(async () => {
  await server.stop();
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
});

const said = async (...args: string[]): Promise<string> =>
  (await overlayTs(directory, args, { NODE_COMPILE_CACHE: join(directory, "compiled") }).ended).out;

/** Host `k` says that it has the container there, whether it may or not. */
async function put(k: number, address: string, changes: Partial<Endpoint>): Promise<void> {
  const { localNetworks } = cluster.hosts[k - 1]!.agent;
  const ipv4 = Ip.parse(address);
  const id = EndpointId.parse(`${k}`.padEnd(64, "b"));
  await localNetworks.enter(network.id);
  localNetworks.put(network.id, { id, ipv4, mac: ruleMac(ipv4), ...changes });
}

/** What the agent says, for what is waited for: the command takes a second. */
const ask = async (what: string): Promise<string> =>
  JSON.stringify(await callUnix(socket, "GET", `/v1/${what}`));

test("a network that no other host is on is `alone`, and in sync with one that is", async () => {
  const inspected = async () =>
    JSON.parse(await said("network", "inspect", "app")) as { inSync: boolean; alone: boolean };
  await put(1, "10.7.99.1", {});
  await until(async () => (await ask("status")).includes('"alone":true'));
  expect(await said("status")).toMatch(/^app +1 +0 +alone +ok$/m);
  expect(await inspected()).toMatchObject({ inSync: true, alone: true });
  await put(2, "10.7.99.2", { names: ["liar"] });
  await until(async () => (await ask("status")).includes('"inSync":true,"alone":false'));
  expect(await said("status")).toMatch(/^app +1 +0 +yes +ok$/m);
  expect(await inspected()).toMatchObject({ inSync: true, alone: false });
});

test("a container that breaks a rule: its name, its host's, and what to do; gone with its host", async () => {
  await until(async () => (await ask("names")).includes("liar"));
  const shown = (): Promise<string[]> =>
    Promise.all([said("status"), said("names"), said("network", "inspect", "app")]);
  const [status = "", ...others] = await shown();
  expect(status).toMatch(/^ignored on app: endpoint 1b{11} of h1: not-in-block\n {2}→ .*restart/m);
  expect(status).toMatch(/^ignored on app: container liar of h2: not-in-block\n {2}→ .*restart/m);
  for (const text of others) expect(text).toContain("liar");
  await cluster.controller.removeNode("h2");
  await until(async () => !(await ask("status")).includes("liar"));
  // Its host's name is known for as long as the end of its containers is told.
  const [h1, h2] = cluster.hosts as [FakeHost, FakeHost];
  await until(() => h1.agent.events.knows((event) => event.kind === "gone"));
  const [events, ...after] = await Promise.all([said("events"), shown()]).then((all) => all.flat());
  expect(events).toMatch(/ {2}liar {2}gone {2}10\.7\.99\.2 on h2$/m);
  for (const text of after) expect(text).not.toContain("liar");
  for (const text of [events, ...after]) expect(text).not.toContain(h2.agent.identity.node);
  expect(after[0]).toContain("ignored on app: endpoint 1b");
});

test("each reason, and one of a later version, comes with what to do", () => {
  const reasons = [
    "not-in-block",
    "not-allowed",
    "gateway",
    "mac-taken",
    "address-taken",
    "no-address",
    "of a later version",
  ];
  const ignored = reasons.map((reason) => {
    const endpoint = EndpointId.parse("a".repeat(64));
    return { node: nodeId(2), host: "h2", container: "web", endpoint, reason } as IgnoredContainer;
  });
  const [empty, ...lines] = ignoredText([{ id: app.id, name: "app", ignored }]);
  expect(empty).toBe("");
  expect(lines).toHaveLength(2 * reasons.length);
  for (const [i, reason] of reasons.entries()) {
    expect(lines[2 * i]).toBe(`ignored on app: container web of h2: ${reason}`);
    expect(lines[2 * i + 1]).toMatch(/^ {2}→ .{20}/);
  }
  expect(ignoredText([{ id: app.id, name: "app", ignored: [] }])).toEqual([]);
});
