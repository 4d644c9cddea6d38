import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { HostMetrics } from "../../../agent/api/metrics.ts";
import { localRoutes } from "../../../agent/api/routes.ts";
import type { NotRunning } from "../../../agent/api/status.ts";
import { metrics } from "../../../agent/cli/metrics-command.ts";
import { adminRoutes } from "../../../controller/admin-api.ts";
import { callUnix, textUnix, UnixHttpServer } from "../../../shared/node/unix-http.ts";
import { overlayTs } from "../../support/command-line.ts";
import { failOnCrashes } from "../../support/crashes.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { until } from "../../support/plugin-bodies.ts";

/** What h1 of two says in numbers, with the controller beside it, and what the command makes of it. */

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-metrics-"));
const sockets = {
  agent: join(directory, "agent.sock"),
  controller: join(directory, "controller.sock"),
};
const taken = {
  code: "PORT_TAKEN",
  message: "TCP 127.0.0.1:9948 is taken",
  next: "end it",
} as const;
let cluster: FakeCluster;
let h1: FakeHost;
let servers: UnixHttpServer[];
/** Undefined: it takes no part meanwhile. */
let part: "member" | undefined = "member";

beforeAll(async () => {
  cluster = await fakeCluster(2, directory);
  [h1] = cluster.hosts as [FakeHost];
  const agent = () => (part === undefined ? undefined : h1.agent);
  const plugin = () => h1.plugin.counts();
  const own = new HostMetrics(agent, plugin, () => textUnix(sockets.controller, "/v1/metrics"));
  const listening = () => ({ address: "127.0.0.1:9948", failure: taken });
  servers = [
    new UnixHttpServer(
      sockets.agent,
      localRoutes(agent, () => ({ state: "not-joined" }), plugin, { metrics: own, listening }),
    ),
    new UnixHttpServer(
      sockets.controller,
      adminRoutes(cluster.controller, async () => {}),
    ),
  ];
  for (const server of servers) await server.start();
  const network = await callUnix<{ id: never }>(sockets.agent, "POST", "/v1/networks", {
    name: "app",
    subnet: "10.7.0.0/16",
  });
  await until(() => h1.agent.localNetworks.find(network.id) !== undefined);
  await callUnix(sockets.agent, "POST", "/v1/networks/exposed?name=app");
});

afterAll(async () => {
  for (const server of servers) await server.stop();
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
});

const shown = async (): Promise<string[]> =>
  (await textUnix(sockets.agent, "/v1/metrics")).split("\n");

const valueOf = (lines: readonly string[], name: string): number =>
  Number(
    lines
      .find((line) => line.startsWith(`${name} `))
      ?.split(" ")
      .at(-1),
  );

const command = (...args: string[]) => overlayTs(directory, args).ended;

test("a host's numbers are there, and those of a controller beside it", async () => {
  const lines = await shown();
  for (const line of [
    "overlay_ts_member 1",
    "overlay_ts_networks_here 1",
    'overlay_ts_network_endpoints{network="app",where="here"} 1',
    "overlay_ts_disk_writable 1",
    "overlay_ts_nodes 2",
    "overlay_ts_networks 1",
    "overlay_ts_controller_decides 1",
    'overlay_ts_requests_total{kind="createNetwork",result="ok"} 1',
  ])
    expect(lines).toContain(line);
  const total = valueOf(lines, 'overlay_ts_network_addresses{network="app"}');
  expect(valueOf(lines, 'overlay_ts_network_addresses_free{network="app"}')).toBe(total - 1);
  const peers = lines.filter((line) => line.startsWith("overlay_ts_peers{"));
  expect(peers.map((line) => Number(line.split(" ")[1])).reduce((a, b) => a + b)).toBe(1);
});

test("each pass over a network in the kernel is timed", async () => {
  // One that is under way is counted already.
  await expect
    .poll(async () => {
      const lines = await shown();
      const [passes, timed] = ["passes_total", "pass_seconds_count"].map((name) =>
        valueOf(lines, `overlay_ts_kernel_${name}`),
      );
      return passes! > 0 && passes === timed;
    })
    .toBe(true);
});

test("however many ask at once, the agent looks once", async () => {
  let looks = 0;
  const counted = new HostMetrics(
    () => undefined,
    () => undefined,
    () => Promise.resolve(`# look ${++looks}\n`),
  );
  const [one, other] = await Promise.all([counted.text(), counted.text()]);
  expect(one).toBe(other);
  expect(await counted.text()).toContain("# look 2\n");
});

test("a request that the controller refuses is counted as one", async () => {
  const again = callUnix(sockets.agent, "POST", "/v1/networks", { name: "app" });
  await expect(again).rejects.toThrow(/app/);
  expect(await shown()).toContain(
    'overlay_ts_requests_total{kind="createNetwork",result="refused"} 1',
  );
});

test("`overlay-ts metrics` prints them, and the controller its own", async () => {
  const [both, own] = await Promise.all([command("metrics"), command("controller", "metrics")]);
  expect(both.out).toMatch(/^overlay_ts_member 1$/m);
  expect(own.out).toMatch(/^overlay_ts_nodes 2$/m);
  expect(own.out).not.toContain("overlay_ts_member");
});

const here = { dataDirectory: directory, runDirectory: directory };

test("a textfile is put there whole, for others to read, in place of the one before", async () => {
  const files = join(directory, "textfiles");
  const textfile = join(files, "overlay_ts.prom");
  await expect(metrics(here, { textfile })).rejects.toMatchObject({
    message: expect.stringMatching(/overlay_ts\.prom cannot be written: /) as string,
    next: expect.stringContaining("textfile") as string,
  });
  mkdirSync(files);
  writeFileSync(textfile, "overlay_ts_member 0\n");
  await metrics(here, { textfile });
  expect(readFileSync(textfile, "utf8")).toMatch(/^overlay_ts_member 1$/m);
  expect(statSync(textfile).mode & 0o777).toBe(0o644);
  expect(readdirSync(files)).toEqual(["overlay_ts.prom"]);
});

test("a file that is written without an agent says so, and the command too", async () => {
  const nobody = mkdtempSync(join(directory, "nobody-"));
  const textfile = join(nobody, "alone.prom");
  const context = { dataDirectory: nobody, runDirectory: nobody };
  await expect(metrics(context, { textfile })).rejects.toThrow(/nobody answers/);
  expect(readFileSync(textfile, "utf8")).toMatch(/^overlay_ts_up 0\n$/m);
});

test("a host that takes no part says so, and why nobody can ask over TCP", async () => {
  part = undefined;
  try {
    expect(await shown()).toContain("overlay_ts_member 0");
    const status = await callUnix<NotRunning>(sockets.agent, "GET", "/v1/status");
    expect(status.metrics).toEqual({ address: "127.0.0.1:9948", failure: taken });
    expect((await command("status")).out).toMatch(/TCP 127\.0\.0\.1:9948 is taken\n {2}→ end it/);
  } finally {
    part = "member";
  }
});
