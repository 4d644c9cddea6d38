import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { EngineClient } from "../../agent/docker/engine/client.ts";
import { DockerNetworkId } from "../../shared/ids.ts";
import { engineContract } from "../contract/engine-contract.ts";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { EventCutter } from "../support/event-cutter.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { ENDS_AT_ONCE, OURS, SLEEP } from "./containers.ts";
import { IMAGE, Lab, startAgent } from "./lab.ts";

/** What hosts say of their containers' names and health, with each engine. */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-naming-test-"));
let lab: Lab;

beforeAll(async () => {
  const hosts = ENGINE_KINDS.length;
  lab = await Lab.up({ directory, hosts, docker: true, engines: ENGINE_KINDS, say: () => {} });
  await lab.form(() => {});
});

afterAll(() => Lab.down(directory));

/** Healthy while there is a file. */
const CHECK = [
  "--health-cmd",
  "cat /healthy",
  "--health-interval",
  "200ms",
  "--health-retries",
  "1",
  "--health-timeout",
  "10s",
];
const HEALTHY = ["/bin/busybox", "touch", "/healthy"];

describe.each(ENGINE_KINDS)("Docker %s", (kind) => {
  const network = `net${kind.replace(".", "")}`;
  let host: LabHost;

  beforeAll(async () => {
    host = lab.hosts[ENGINE_KINDS.indexOf(kind)]!;
    await host.docker(...OURS, network);
  });

  afterEach(async () => {
    const ids = (await host.docker("ps", "-aq", "--filter", "label=test")).split("\n");
    await host.docker("rm", "-f", "none", ...ids.filter(Boolean)).catch(() => {});
  });

  const run = (name: string, ...options: string[]): Promise<string> =>
    host.docker("run", "-d", "--label", "test", "--name", name, ...options, ...SLEEP);
  const begin = (name: string, ...options: string[]): Promise<string> =>
    run(name, "--network", network, ...options);

  /** All names of all containers on the network, and why those of each are out. */
  async function said(): Promise<Record<string, string>> {
    const all = await host.ask<{ network: string; names: string[]; out?: string }[]>("endpoints");
    return Object.fromEntries(
      all
        .filter((one) => one.network === network)
        .flatMap(({ names, out }) => names.map((name) => [name, out ?? "in"])),
    );
  }

  /** Without the short ids. */
  function expectSaid(expected: Record<string, string>, timeoutMs = 20_000): Promise<void> {
    return eventually(timeoutMs, "these names", async () => {
      const names = Object.entries(await said()).filter(([name]) => !/^[0-9a-f]{12}$/.test(name));
      expect(Object.fromEntries(names)).toEqual(expected);
    });
  }

  test("name, aliases, host name and short id", async () => {
    const id = await begin("c1", "--network-alias", "Www", "--hostname", "My.Host");
    await expectSaid({ c1: "in", www: "in", "my.host": "in" });
    expect(await said()).toHaveProperty(id.slice(0, 12), "in");
    await host.docker("rename", "c1", "c2");
    await expectSaid({ c2: "in", www: "in", "my.host": "in" });
    await host.docker("restart", "-t", "0", "c2");
    await expectSaid({ c2: "in", www: "in", "my.host": "in" });
    await host.docker("rm", "-f", "c2");
    await expectSaid({});
  });

  test("Compose's services, as many as there are of them", async () => {
    const web = { image: IMAGE, command: "/bin/sleep 1000", stop_signal: "SIGKILL" };
    const file = {
      version: "3.8",
      services: { web: { ...web, labels: { test: "" }, networks: { app: { aliases: ["www"] } } } },
      networks: { app: { external: true, name: network } },
    };
    const path = join(host.directory, "compose.json");
    writeFileSync(path, JSON.stringify(file));
    await host.compose("-p", "shop", "-f", path, "up", "-d", "--scale", "web=3");
    const separator = kind === "20.10" ? "_" : "-";
    const own = [1, 2, 3].map((k) => [["shop", "web", k].join(separator), "in"]);
    await expectSaid({ web: "in", www: "in", ...(Object.fromEntries(own) as object) });
    await host.compose("-p", "shop", "-f", path, "down");
    await expectSaid({});
  });

  test("health, and pauses", async () => {
    await begin("plain");
    await begin("checked", ...CHECK);
    await expectSaid({ plain: "in", checked: "unhealthy" });
    await host.docker("exec", "checked", ...HEALTHY);
    await expectSaid({ plain: "in", checked: "in" });
    await host.docker("pause", "plain", "checked");
    await expectSaid({ plain: "paused", checked: "paused" });
    await host.docker("unpause", "plain", "checked");
    await expectSaid({ plain: "in", checked: "in" });
    await host.docker("exec", "checked", "/bin/busybox", "rm", "/healthy");
    await expectSaid({ plain: "in", checked: "unhealthy" });
    await begin("slow", ...CHECK, "--health-interval", "1h");
    await expectSaid({ plain: "in", checked: "unhealthy", slow: "starting" });
  });

  test("one that drains is out before it ends; one that is killed is gone", async () => {
    const drain =
      "trap 'until [ -e /drained ]; do sleep 0.1; done; exit' TERM; while :; do sleep 0.1; done";
    const options = ["--label", "test", "--name", "drains", "--network", network];
    await host.docker("run", "-d", ...options, IMAGE, "/bin/sh", "-c", drain);
    await begin("killed");
    await expectSaid({ drains: "in", killed: "in" });
    const stop = host.docker("stop", "-t", "600", "drains");
    await expectSaid({ drains: "stopping", killed: "in" });
    await host.docker("exec", "drains", "/bin/busybox", "touch", "/drained");
    await stop;
    await expectSaid({ killed: "in" });
    const pid = await host.docker("inspect", "-f", "{{.State.Pid}}", "killed");
    await host.exec("kill", "-9", pid.trim());
    await expectSaid({});
  });

  test("connect and disconnect of a container that runs", async () => {
    await run("c1");
    await host.docker("network", "connect", "--alias", "one", network, "c1");
    await expectSaid({ c1: "in", one: "in" });
    await host.docker("network", "disconnect", network, "c1");
    await expectSaid({});
    await host.docker("network", "connect", "--alias", "two", network, "c1");
    await expectSaid({ c1: "in", two: "in" });
  });

  test.each([{ options: [] }, { options: ["--live-restore"] }])(
    "the engine is killed and comes back: $options",
    async ({ options }) => {
      // Nothing runs on it before and afterwards, and an engine that is asked to end waits for the agent's connections.
      const restart = async (...given: string[]): Promise<void> => {
        await host.stopEngine("KILL");
        await host.startEngine(kind, ...given);
      };
      if (options.length > 0) await restart(...options);
      await begin("stays", "--restart", "always", "--network-alias", "www", ...ENDS_AT_ONCE);
      await begin("goes", ...ENDS_AT_ONCE);
      await expectSaid({ stays: "in", www: "in", goes: "in" });
      await restart(...options);
      const left = options.length === 0 ? {} : { goes: "in" };
      await expectSaid({ stays: "in", www: "in", ...left }, 90_000);
      await host.docker("rm", "-f", "stays", "goes");
      await expectSaid({});
      if (options.length > 0) await restart();
    },
  );

  test("what happens while the agent is away", async () => {
    // Docker remembers 256 events, and a check is three: at five checks a second the signal to `told` would be
    // forgotten in the time that an agent may need to start.
    const checked = [...CHECK, "--health-interval", "2s"];
    for (const name of ["stops", "named", "pauses", "heals"])
      await begin(name, ...ENDS_AT_ONCE, ...(name === "heals" ? checked : []));
    // It ignores the signal, as all do without a handler in a container: `docker stop` waits for its end.
    await begin("told");
    const usual = { stops: "in", named: "in", pauses: "in", heals: "unhealthy" };
    await expectSaid({ ...usual, told: "in" });
    await host.docker("kill", "-s", "TERM", "told");
    await expectSaid({ ...usual, told: "stopping" });
    await host.stopService("agent", "KILL");
    await host.docker("rename", "named", "renamed");
    await host.docker("pause", "pauses");
    await host.docker("exec", "heals", ...HEALTHY);
    const removed = host.docker("rm", "-f", "stops");
    startAgent(host, true);
    await removed;
    const told = { told: "stopping" };
    await expectSaid({ renamed: "in", pauses: "paused", heals: "in", ...told }, 60_000);
    await host.docker("restart", "-t", "0", "told");
    await expectSaid({ renamed: "in", pauses: "paused", heals: "in", told: "in" }, 60_000);
  });

  test("the agent's database is lost", async () => {
    await begin("c1", "--network-alias", "www");
    await expectSaid({ c1: "in", www: "in" });
    await host.stopService("agent", "KILL");
    await host.exec("sh", "-c", "rm $OVERLAY_TS_DATA_DIR/agent/agent.db*");
    startAgent(host, true);
    await expectSaid({ c1: "in", www: "in" }, 90_000);
  });

  test("events are cut, again and again", async () => {
    const proxy = new EventCutter(host);
    await proxy.start();
    await host.stopService("agent", "TERM");
    host.startAgent("--docker", proxy.path);
    try {
      await begin("c1");
      await expectSaid({ c1: "in" });
      proxy.deaf = true;
      proxy.cut();
      await begin("c2", "--network-alias", "www");
      await host.docker("rename", "c1", "c3");
      proxy.deaf = false;
      await expectSaid({ c3: "in", c2: "in", www: "in" });
      // Open, and silent: only the list tells.
      proxy.silent = true;
      await host.docker("pause", "c2");
      await expectSaid({ c3: "in", c2: "paused", www: "paused" }, 60_000);
    } finally {
      await host.stopService("agent", "TERM");
      proxy.stop();
      startAgent(host, true);
    }
    await expectSaid({ c3: "in", c2: "paused", www: "paused" }, 60_000);
  });
});

/** One check lasts until it succeeds: none fails meanwhile, which would be an event. */
const BLOCKING = [
  "--health-cmd",
  "until cat /healthy; do sleep 0.1; done",
  ...CHECK.slice(2),
  "--health-timeout",
  "1h",
];

for (const kind of ENGINE_KINDS)
  engineContract(`engine ${kind}`, async () => {
    const host = lab.hosts[ENGINE_KINDS.indexOf(kind)]!;
    const name = `contract${kind.replace(".", "")}`;
    const id = (await host.docker(...OURS, name)).trim();
    const on = ["--network", name, "--network-alias", "Www", "--hostname", "My.Host"];
    const links = ["--link", "lv:db", "--link", "other", "--dns", "192.0.2.53"];
    return {
      kind,
      engine: new EngineClient(join(host.directory, "run/docker.sock")),
      network: { name, id: DockerNetworkId.parse(id) },
      create: async (container) =>
        (
          await host.docker("create", "--name", container, ...on, ...links, ...BLOCKING, ...SLEEP)
        ).trim(),
      start: (container) => host.docker("start", container),
      heal: (container) => host.docker("exec", container, ...HEALTHY),
      pause: (container) => host.docker("pause", container),
      unpause: (container) => host.docker("unpause", container),
      rename: (container, to) => host.docker("rename", container, to),
      kill: (container, signal) => host.docker("kill", "-s", String(signal), container),
      connect: (container, alias) =>
        host.docker("network", "connect", "--alias", alias, name, container),
      disconnect: (container) => host.docker("network", "disconnect", name, container),
      remove: (container) => host.docker("rm", container),
    };
  });
