// @module-tag never

import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawn } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { captured, containing, newMarker } from "../support/capture.ts";
import { ENGINE_KINDS, type EngineKind } from "../support/engine-root.ts";
import { eventually, type LabHost, NAMESERVER } from "../support/lab-host.ts";
import { whileFrozen } from "./agent-process.ts";
import { addressOf, netnsOf, OURS, pings, start } from "./containers.ts";
import { IMAGE, Lab, switchOf } from "./lab.ts";
import { crossings, type End, endOf, inNetns, portOf } from "./way-out-frames.ts";

/**
 * docker_gwbridge, by which containers of all networks leave their host, as each engine makes it: whom they meet
 * there, who gets in by it, and what never leaves by it. On each host a container of a plain network, and one of
 * an encrypted network, which publishes one port of two. What each host does by itself all do at the same time.
 */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-way-out-test-"));
const PUBLISHED = 8081;
const NOT_PUBLISHED = 8080;
const GATEWAY = "10.255.240.1";
let lab: Lab;

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: true, engines: ENGINE_KINDS, say: () => {} });
  await lab.form(() => {});
  const [h1] = lab.hosts as [LabHost];
  await h1.docker(...OURS, "plain");
  await h1.docker(...OURS, "-o", "encryption=wireguard", "secret");
  for (const host of lab.hosts) {
    for (const network of ["plain", "secret"]) await host.waitForNetwork(network);
    // Whoever is on the link is the way to everything else.
    await host.exec("ip", "route", "replace", "default", "via", NAMESERVER);
    await startBoth(host);
  }
});

afterAll(() => Lab.down(directory));

async function startBoth(host: LabHost): Promise<void> {
  // Both publish a port: else they leave by their networks.
  await start(host, `plain-${host.name}`, "plain", "-p", "8082:8082");
  const servers = `httpd -p ${PUBLISHED} -h /bin; exec httpd -f -p ${NOT_PUBLISHED} -h /bin`;
  const options = ["--name", `secret-${host.name}`, "--network", "secret"];
  const publish = ["-p", `${PUBLISHED}:${PUBLISHED}`];
  await host.docker("run", "-d", ...options, ...publish, IMAGE, "/bin/sh", "-c", servers);
}

const hostOf = (kind: EngineKind): LabHost => lab.hosts[ENGINE_KINDS.indexOf(kind)]!;
/** Another host. */
const nextTo = (host: LabHost): LabHost =>
  lab.hosts[(lab.hosts.indexOf(host) + 1) % lab.hosts.length]!;
/** On the hosts' link. */
const linkAddress = (host: LabHost): string => `198.51.100.${host.name.slice(1)}`;
const secretOf = (host: LabHost): Promise<string> =>
  addressOf(host, `secret-${host.name}`, "secret");

/** In the host's namespace, of one of our tables there. */
async function counter(host: LabHost, table: string, name: string): Promise<number> {
  const text = await host.exec("nft", "-j", "list", "counter", "inet", table, name);
  const { nftables } = JSON.parse(text) as { nftables: { counter?: { packets: number } }[] };
  return nftables.find((entry) => entry.counter !== undefined)?.counter?.packets ?? NaN;
}

/** Whether somebody on the hosts' link gets a connection. */
async function connects(ip: string, port: number): Promise<boolean> {
  const to = `TCP4:${ip}:${port},connect-timeout=2`;
  try {
    await inNetns(switchOf(lab), "socat", "-u", "OPEN:/dev/null", to);
    return true;
  } catch (error) {
    expect(error).toMatchObject({ stderr: expect.stringMatching(/timed out|refused/) });
    return false;
  }
}

/** What the logs of engine and agent say from now on of networks that Docker refuses to make. */
function refusalsFromNow(host: LabHost) {
  const [engine, agent] = [host.log("docker").length, host.log("agent").length];
  return {
    count: () =>
      host.log("docker").slice(engine).split("/networks/create returned error").length - 1,
    warnings: () =>
      host
        .log("agent")
        .slice(agent)
        .split("\n")
        .filter((line) => line.includes("this engine's networks are not as they should be"))
        .map((line) => (JSON.parse(line) as { message: string }).message),
  };
}

describe("containers of two networks do not meet, nor take each other's frames, whatever they send", () => {
  test.concurrent.each(ENGINE_KINDS)("Docker %s", async (kind) => {
    const host = hostOf(kind);
    const [a, b] = (await Promise.all(
      ["plain", "secret"].map((network) => endOf(host, `${network}-${host.name}`)),
    )) as [End, End];
    const bothReachTheHost = async (): Promise<void> => {
      for (const { container } of [a, b]) expect(await pings(host, container, GATEWAY)).toBe(3);
    };
    const byRules = (value: 0 | 1): Promise<string> =>
      host.exec("sysctl", "-qw", `net.bridge.bridge-nf-call-iptables=${value}`);
    /** Behind which port the bridge has b after a spoke with b's MAC. */
    const theft = async (): Promise<string> => {
      await a.sends({ to: await gatewayMac(), from: b.mac });
      return portOf(host, b.mac);
    };
    const gatewayMac = async (): Promise<string> =>
      (await host.exec("cat", "/sys/class/net/docker_gwbridge/address")).trim();
    await eventually(60_000, "ports that are isolated and bound", () => host.agrees());
    try {
      for (const value of [1, 0] as const) {
        // Without it Docker's `icc=false`, a rule on packets that are routed, is of no use.
        await byRules(value);
        await bothReachTheHost();
        expect(await crossings(a, b)).toEqual({ raw: 0, tagged: 0, ip: 0, taggedIp: 0 });
        expect(await pings(host, a.container, b.ip)).toBe(0);
        expect(await theft()).toBe(b.port);
      }
      // Without what is ours they would: the test can fail.
      await whileFrozen(host, async () => {
        await host.exec("nft", "delete", "table", "bridge", "overlay_ts_way_out");
        for (const { port } of [a, b])
          await host.exec("bridge", "link", "set", "dev", port, "isolated", "off");
        expect(await crossings(a, b)).toEqual({ raw: 1, tagged: 1, ip: 1, taggedIp: 1 });
        expect(await pings(host, a.container, b.ip)).toBe(3);
        expect(await theft()).toBe(a.port);
      });
    } finally {
      await byRules(1);
    }
    await eventually(60_000, "ports that are isolated and bound again", () => host.agrees());
    await bothReachTheHost();
    expect(await crossings(a, b)).toEqual({ raw: 0, tagged: 0, ip: 0, taggedIp: 0 });
  });
});

test.each(ENGINE_KINDS)(
  "from the hosts' link only published ports are reached, whatever Docker's own rules let in, Docker %s",
  async (kind) => {
    const host = hostOf(kind);
    const here = linkAddress(host);
    const { ip } = await endOf(host, `secret-${host.name}`);
    await inNetns(switchOf(lab), "ip", "route", "replace", "10.255.240.0/20", "via", here);
    const published = (): Promise<boolean> => connects(here, PUBLISHED);
    const rules = (command: string): Promise<string> =>
      host.exec(...host.withEngine("sh", "-ec", command));
    await eventually(20_000, "the published server", async () =>
      expect(await published()).toBe(true),
    );
    await rules("iptables-save >/run/rules; iptables -P FORWARD ACCEPT");
    try {
      expect(await connects(ip, NOT_PUBLISHED)).toBe(false);
      // Since 28 Docker has a rule of its own in front of all others, which ours is behind.
      await rules("iptables -t raw -F");
      const before = await counter(host, "overlay_ts", "unpublished");
      expect(await connects(ip, NOT_PUBLISHED)).toBe(false);
      expect(await connects(ip, PUBLISHED)).toBe(false);
      expect(await counter(host, "overlay_ts", "unpublished")).toBeGreaterThan(before);
      expect(await published()).toBe(true);
      // Without ours, and without the second one that Docker has since 28, it is reached: the test can fail.
      await whileFrozen(host, async () => {
        await host.exec("nft", "delete", "table", "inet", "overlay_ts");
        await rules("iptables -F DOCKER");
        expect(await connects(ip, NOT_PUBLISHED)).toBe(true);
      });
    } finally {
      await rules("iptables-restore </run/rules");
    }
    await eventually(30_000, "what was deleted", () => counter(host, "overlay_ts", "unpublished"));
    expect(await connects(ip, NOT_PUBLISHED)).toBe(false);
    expect(await published()).toBe(true);
  },
);

test.each(ENGINE_KINDS)(
  "a container on an encrypted network whose interface is deleted sends nothing by its way out until it has it again, Docker %s",
  async (kind) => {
    const host = hostOf(kind);
    const other = nextTo(host);
    const marker = newMarker();
    const far = await secretOf(other);
    const own = `secret-${host.name}`;
    const netns = await netnsOf(host, own);
    const networks = await host.ask<{ id: string; name?: string }[]>("networks");
    const { id } = networks.find(({ name }) => name === "secret")!;
    await eventually(30_000, "the path", async () => expect(await pings(host, own, far)).toBe(3));
    const before = await counter(host, "overlay_ts", "aroundNetwork");
    const frames = await captured(directory, Number(host.name.slice(1)), async () => {
      const gone = "for p in $(ip -o link | grep -o 'ovp[0-9a-f]*'); do ip link del $p; done";
      await host.exec("nsenter", `--net=/run/overlay-ts/netns/${id}`, "sh", "-ec", gone);
      await eventually(60_000, "its interface", async () => {
        const pattern = ["-p", marker.toString("hex")];
        await inNetns(netns, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", ...pattern, far);
      });
    });
    expect(containing(frames, marker)).toBe(0);
    expect(await counter(host, "overlay_ts", "aroundNetwork")).toBeGreaterThan(before);
    await eventually(30_000, "agreement", () => host.agrees());
  },
);

describe("Docker's chains are deleted while there is no docker_gwbridge: `status` says to restart it, and then all goes on", () => {
  test.concurrent.each(ENGINE_KINDS)("Docker %s", async (kind) => {
    const host = hostOf(kind);
    const other = nextTo(host);
    const here = linkAddress(host);
    const all = (await host.docker("ps", "-aq")).split("\n").filter(Boolean);
    await host.docker("rm", "-f", ...all);
    const without = (command: string): Promise<void> =>
      whileFrozen(host, async () => {
        await host.docker("network", "rm", "docker_gwbridge");
        await host.exec("sh", "-ec", command);
      });
    const isBack = (): Promise<void> =>
      eventually(30_000, "docker_gwbridge", async () => {
        await host.docker("network", "inspect", "docker_gwbridge");
        expect(await host.statusText()).not.toMatch(/^docker: /m);
      });
    try {
      // Of chains that are only empty Docker makes do.
      await without("for t in filter nat; do iptables -t $t -F; done");
      await isBack();
      const refusals = refusalsFromNow(host);
      const gone = (table: string): string => `iptables -t ${table} -F; iptables -t ${table} -X`;
      await without(gone("filter"));
      await eventually(60_000, "refusals, and what to do", async () => {
        expect(refusals.count()).toBeGreaterThan(2);
        const restart = /^docker: .*→ .*systemctl restart docker/ms;
        expect(await host.statusText()).toMatch(restart);
      });
      // It is said once, however often it is tried.
      const warnings = refusals.warnings();
      expect(warnings).toEqual([...new Set(warnings)]);
      expect(warnings.length).toBeLessThan(refusals.count());
      await host.exec("sh", "-ec", gone("nat"));
    } finally {
      await host.stopEngine("TERM");
      await host.startEngine(kind);
      await isBack();
      await startBoth(host);
    }
    await eventually(60_000, "all of it", async () => {
      expect(await pings(other, `secret-${other.name}`, await secretOf(host))).toBe(3);
      expect(await pings(host, `plain-${host.name}`, GATEWAY)).toBe(3);
      expect(await connects(here, PUBLISHED)).toBe(true);
    });
  });
});

/** An end of the host's part: h1, with the controller, last. */
describe("a host leaves by force, and what runs on an encrypted network runs on", () => {
  const far = new Map<string, string>();

  beforeAll(async () => {
    for (const host of lab.hosts) far.set(host.name, await secretOf(nextTo(host)));
  });

  const ENDS: readonly (readonly [EngineKind, "alive" | "killed"])[] = [
    ["28.5", "killed"],
    ["26.1", "alive"],
    ["20.10", "killed"],
  ];

  test.each(ENDS)("nothing of it leaves in clear; Docker %s, %s", async (kind, engine) => {
    const host = hostOf(kind);
    const k = Number(host.name.slice(1));
    const to = far.get(host.name)!;
    // Its default route is that of a network of Docker's own, which stays whatever we do.
    await start(host, "also", "secret", "-p", "8083:8083");
    await host.docker("network", "connect", "bridge", "also");
    const sources = await Promise.all(
      [`secret-${host.name}`, "also"].map(async (container) => {
        const marker = newMarker();
        const sends = ["ping", "-n", "-p", marker.toString("hex"), "-W", "1", to];
        return { netns: await netnsOf(host, container), marker, sends };
      }),
    );
    const streams = sources.map(({ netns, sends }) =>
      spawn("nsenter", [`--net=${netns}`, ...sends, "-i", "0.1"], { stdio: "ignore" }),
    );
    try {
      const frames = await captured(directory, k, async () => {
        if (k > 1) {
          await lab.hosts[0]!.overlay("node", "rm", host.name);
          await eventually(60_000, "the controller's word", async () =>
            expect((await host.status()).removed).toBeDefined(),
          );
        }
        if (engine === "killed") await host.stopEngine("KILL");
        await host.overlay("leave", "--force");
        await eventually(30_000, "packets that are dropped", async () =>
          expect(await counter(host, "overlay_ts_left", "aroundNetwork")).toBeGreaterThan(5),
        );
      });
      for (const { marker } of sources) expect(containing(frames, marker)).toBe(0);
    } finally {
      for (const stream of streams) stream.kill();
    }
    // Without the table they leave: the test can fail. An engine that was asked took all interfaces of the one.
    const leaving = engine === "killed" ? sources : sources.slice(1);
    await whileFrozen(host, async () => {
      await host.exec("nft", "delete", "table", "inet", "overlay_ts_left");
      const frames = await captured(directory, k, async () => {
        for (const { netns, sends } of leaving)
          await inNetns(netns, ...sends, "-c", "3", "-i", "0.2").catch(() => {});
      });
      for (const { marker } of leaving)
        expect(containing(frames, marker)).toBeGreaterThanOrEqual(3);
    });
    // It is remembered, and put back.
    await eventually(30_000, "the table", () => counter(host, "overlay_ts_left", "aroundNetwork"));
  });
});
