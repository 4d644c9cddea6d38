import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { callUnix } from "../../shared/node/unix-http.ts";
import { inParallel } from "../support/in-parallel.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { type Posted, post } from "../support/unix-post.ts";
import { addressOf, OURS, start } from "./containers.ts";
import { type Held, held } from "./held.ts";
import { IMAGE, Lab } from "./lab.ts";
import { Pinging } from "./pinging.ts";
import { PluginCalls } from "./plugin-calls.ts";

/** Many at once, on real engines and kernels. Figures are printed, never asserted. */

vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 600_000 });

/** The soak has more of all. */
const CONTAINERS = Number(process.env["SCALE_CONTAINERS"] ?? 20);
const ROUNDS = Number(process.env["SCALE_ROUNDS"] ?? 1);
const NETWORKS = Number(process.env["SCALE_NETWORKS"] ?? 40);

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-scale-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: true, say: () => {} });
  [h1, h2, h3] = lab.hosts as [LabHost, LabHost, LabHost];
  await lab.form(() => {});
  await h1.docker(...OURS, "--subnet", "10.91.0.0/22", "many");
  for (const host of lab.hosts) await host.waitForNetwork("many");
});

afterAll(() => Lab.down(directory));

function say(text: string): void {
  console.info(text);
}

async function timed(what: string, work: () => Promise<unknown>): Promise<void> {
  const begunMs = performance.now();
  await work();
  say(`${what}: ${((performance.now() - begunMs) / 1000).toFixed(1)} s`);
}

async function memory(host: LabHost): Promise<string> {
  const { memoryBytes } = await host.status();
  return `${Math.round(memoryBytes / 1e6)} MB`;
}

/** Docker's Engine API: a command of its own for each container would take most of the time. */
async function engine(host: LabHost, path: string, body?: unknown): Promise<Posted> {
  const answer = await post(host.path("/run/docker.sock"), path, body);
  if (answer.status >= 300) throw new Error(`${host.name} ${path}: ${answer.text}`);
  return answer;
}

async function create(host: LabHost, name: string, network: string): Promise<void> {
  await engine(host, `/containers/create?name=${name}`, {
    Image: IMAGE,
    Cmd: ["/bin/sleep", "100000"],
    HostConfig: { NetworkMode: network },
  });
}

async function stop(host: LabHost, name: string): Promise<void> {
  await engine(host, `/containers/${name}/kill`);
  await engine(host, `/containers/${name}/wait`);
}

async function agree(): Promise<void> {
  for (const host of lab.hosts)
    await eventually(120_000, `agreement on ${host.name}`, () => host.agrees());
}

async function holdsAgain(before: ReadonlyMap<LabHost, Held>): Promise<void> {
  for (const [host, wanted] of before)
    await eventually(120_000, `${host.name} as it was before`, async () => {
      expect(await held(host)).toEqual(wanted);
    });
}

async function heldEverywhere(): Promise<Map<LabHost, Held>> {
  const all = await Promise.all(lab.hosts.map((host) => held(host)));
  return new Map(lab.hosts.map((host, i) => [host, all[i]!]));
}

test(`${CONTAINERS} containers start and stop at once on each of three engines, ${ROUNDS} rounds`, async () => {
  for (const host of lab.hosts) await start(host, "still", "many");
  const address = await addressOf(h3, "still", "many");
  await agree();
  const before = await heldEverywhere();
  const pinging = await Pinging.start(h1, "still", address);
  const names = Array.from({ length: CONTAINERS }, (_, i) => `many-${i}`);
  const all = lab.hosts.flatMap((host) => names.map((name) => ({ host, name })));
  await inParallel(12, all, ({ host, name }) => create(host, name, "many"));
  for (let round = 1; round <= ROUNDS; round++) {
    await timed(`round ${round}, ${all.length} started`, () =>
      inParallel(all.length, all, ({ host, name }) => engine(host, `/containers/${name}/start`)),
    );
    await agree();
    for (const host of lab.hosts)
      await eventually(120_000, `all of them on ${host.name}`, async () => {
        const endpoints = await host.ask<unknown[]>("endpoints");
        expect(endpoints).toHaveLength(all.length + lab.hosts.length);
      });
    await agree();
    await timed(`round ${round}, ${all.length} stopped`, () =>
      inParallel(all.length, all, ({ host, name }) => stop(host, name)),
    );
    await holdsAgain(before);
    await agree();
  }
  const { sent, lost } = await pinging.stop();
  expect(lost).toEqual([]);
  expect(sent).toBeGreaterThanOrEqual(20);
  for (const host of lab.hosts) await host.docker("rm", "-f", "still", ...names);
});

test(`${NETWORKS} networks on one host at once, each with a container`, async () => {
  for (const host of lab.hosts)
    await eventually(60_000, "an empty host", async () => {
      expect(await held(host)).toMatchObject({ namespaces: 0, links: 0 });
    });
  const before = await heldEverywhere();
  const socket = h1.path("/run/overlay-ts/agent.sock");
  const names = Array.from({ length: NETWORKS }, (_, i) => `net-${i}`);
  const networksOf = async (host: LabHost): Promise<number> => {
    const text = await host.docker("network", "ls", "-q", "--filter", "name=net-");
    return text.split("\n").filter(Boolean).length;
  };
  const onEveryEngine = async (count: number): Promise<void> => {
    for (const host of lab.hosts)
      await eventually(600_000, `${count} networks on ${host.name}`, async () => {
        expect(await networksOf(host)).toBe(count);
      });
  };
  say(`agent before: ${await memory(h1)}`);
  await timed(`${NETWORKS} networks created`, () =>
    inParallel(20, names, (name) => callUnix(socket, "POST", "/v1/networks", { name })),
  );
  await timed("then on every engine", () => onEveryEngine(NETWORKS));
  await inParallel(8, names, (name) => create(h1, `in-${name}`, name));
  await timed(`${NETWORKS} containers started, one on each`, () =>
    inParallel(NETWORKS, names, (name) => engine(h1, `/containers/in-${name}/start`)),
  );
  await agree();
  say(`agent with them: ${await memory(h1)}`);
  expect(await held(h1)).toMatchObject({ namespaces: NETWORKS, endpoints: NETWORKS });
  await timed(`${NETWORKS} containers removed`, () =>
    inParallel(8, names, (name) => h1.docker("rm", "-f", `in-${name}`)),
  );
  await timed("all networks removed", () =>
    eventually(120_000, "the end of all", async () => {
      const left = (await networkNames(socket)).filter((name) => names.includes(name));
      await inParallel(20, left, (name) => callUnix(socket, "DELETE", `/v1/networks?name=${name}`));
    }),
  );
  await timed("then gone on every engine", () => onEveryEngine(0));
  await holdsAgain(before);
  await agree();
  say(`agent after: ${await memory(h1)}`);
});

async function networkNames(socket: string): Promise<string[]> {
  const networks = await callUnix<{ name?: string }[]>(socket, "GET", "/v1/networks");
  return networks.flatMap(({ name }) => name ?? []);
}

test("1,022 containers of one network on a host, as many as its bridge takes, and no more", async () => {
  // The engines would not list what they did not make, and the agents take it for gone.
  for (const host of [h1, h2]) await host.stopEngine("TERM");
  await h3.overlay("network", "create", "full", "--subnet", "10.92.0.0/20");
  const [here, there] = [h1, h2].map((host) => new PluginCalls(host)) as [PluginCalls, PluginCalls];
  await eventually(30_000, "the network's record", () => here.show("full"));
  await eventually(30_000, "the network's record", () => there.show("full"));
  await there.begin("f".repeat(64));
  const ids = Array.from(
    { length: 1022 },
    (_, i) => `${i.toString(16).padStart(12, "0")}${"0".repeat(52)}`,
  );
  await timed(`${ids.length} containers`, () => inParallel(16, ids, (id) => here.begin(id)));
  say(`agent with them: ${await memory(h1)}`);
  await eventually(60_000, "all of them in the other host's kernel", async () => {
    expect(await remotes(h2)).toBe(ids.length);
  });
  expect(await held(h1)).toMatchObject({ ports: ids.length, endpoints: ids.length });
  await expect(here.begin("e".repeat(64))).rejects.toThrow(/as many as a bridge has ports/);
  await timed("all removed", () => inParallel(16, ids, (id) => here.end(id)));
  await eventually(60_000, "nothing left", async () => {
    expect(await held(h1)).toMatchObject({ endpoints: 0, addresses: 0, ports: 0, links: 0 });
    expect(await remotes(h2)).toBe(0);
  });
  await there.end("f".repeat(64));
});

/** Containers of other hosts in the kernel, complete: both halves of the FDB and the neighbour. */
async function remotes(host: LabHost): Promise<number> {
  const [network] = (await host.exec("ls", "/run/overlay-ts/netns"))
    .split("\n")
    .filter((name) => name !== "proof");
  const inside = ["nsenter", `--net=/run/overlay-ts/netns/${network}`];
  const fdb = await host.exec(...inside, "bridge", "fdb", "show", "dev", "vx0");
  const neighbours = await host.exec(
    ...inside,
    "ip",
    "neigh",
    "show",
    "dev",
    "br0",
    "nud",
    "permanent",
  );
  const counts = [
    fdb.match(/ dst .* self .*extern_learn/g)?.length ?? 0,
    fdb.match(/ extern_learn master br0/g)?.length ?? 0,
    neighbours.match(/ lladdr /g)?.length ?? 0,
  ];
  expect(new Set(counts).size).toBe(1);
  return counts[0] ?? 0;
}
