// @module-tag never

import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEFAULT_PORTS } from "../../shared/cluster-state.ts";
import { captured, containing, newMarker } from "../support/capture.ts";
import { ENGINE_KINDS, type EngineKind } from "../support/engine-root.ts";
import { eventually, type LabHost, NAMESERVER } from "../support/lab-host.ts";
import { whileFrozen } from "./agent-process.ts";
import { addressOf, netnsOf, OURS, pings, start } from "./containers.ts";
import { Lab, switchOf } from "./lab.ts";
import { Pinging } from "./pinging.ts";
import { inNetns } from "./way-out-frames.ts";

/**
 * Containers that leave their host by their network, as each engine makes them: with one interface, by the host's
 * address, whatever is restarted or connected meanwhile, and with nothing of an encrypted network in clear.
 */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-transit-test-"));
const PUBLISHED = 8081;
let lab: Lab;

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: true, engines: ENGINE_KINDS, say: () => {} });
  // As on a router: Docker does so for IPv4 alone.
  for (const host of lab.hosts) await host.exec("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1");
  await lab.form(() => {});
  const [h1] = lab.hosts as [LabHost];
  await h1.docker(...OURS, "--ipv6", "six");
  for (const network of ["plain", "other"]) await h1.docker(...OURS, network);
  await h1.docker(...OURS, "--internal", "inner");
  await h1.docker(...OURS, "-o", "encryption=wireguard", "secret");
  await Promise.all(
    lab.hosts.map(async (host) => {
      for (const network of ["plain", "other", "inner", "secret", "six"])
        await host.waitForNetwork(network);
      // Whoever is on the link is the way to everything else.
      await host.exec("ip", "route", "replace", "default", "via", NAMESERVER);
      await start(host, `plain-${host.name}`, "plain");
      await start(host, `secret-${host.name}`, "secret");
    }),
  );
});

afterAll(() => Lab.down(directory));

const hostOf = (kind: EngineKind): LabHost => lab.hosts[ENGINE_KINDS.indexOf(kind)]!;
const nextTo = (host: LabHost): LabHost =>
  lab.hosts[(lab.hosts.indexOf(host) + 1) % lab.hosts.length]!;
const linkAddress = (host: LabHost): string => `198.51.100.${host.name.slice(1)}`;

/** Its interfaces but `lo`, and by which it leaves. */
async function ways(host: LabHost, container: string): Promise<{ links: string[]; by: string }> {
  const netns = await netnsOf(host, container);
  const links = JSON.parse(await inNetns(netns, "ip", "-j", "link")) as { ifname: string }[];
  const route = await inNetns(netns, "ip", "route", "show", "default");
  const by = / dev (\S+)/.exec(route)?.[1] ?? "none";
  return { links: links.map(({ ifname }) => ifname).filter((name) => name !== "lo"), by };
}

async function counter(host: LabHost, table: string, name: string): Promise<number> {
  const text = await host.exec("nft", "list", "counter", "inet", table, name);
  return Number(/packets (\d+)/.exec(text)?.[1]);
}

async function connects(ip: string, port: number): Promise<boolean> {
  return inNetns(
    switchOf(lab),
    "socat",
    "-u",
    "OPEN:/dev/null",
    `TCP4:${ip}:${port},connect-timeout=2`,
  ).then(
    () => true,
    () => false,
  );
}

function each(title: string, work: (host: LabHost) => Promise<void>): void {
  describe(title, () => {
    test.concurrent.each(ENGINE_KINDS)("Docker %s", (kind) => work(hostOf(kind)));
  });
}

each(
  "without published ports a container has the network's interface alone, and leaves by it",
  async (host) => {
    const own = `plain-${host.name}`;
    expect(await ways(host, own)).toEqual({ links: ["eth0"], by: "eth0" });
    expect(await pings(host, own, linkAddress(nextTo(host)))).toBe(3);
    expect(await pings(host, own, NAMESERVER)).toBe(3);
    // By the host's address: nothing on the link knows another.
    const marker = newMarker();
    const frames = await captured(directory, Number(host.name.slice(1)), async () => {
      const pattern = ["-p", marker.toString("hex"), "-c", "1", "-W", "2"];
      await inNetns(await netnsOf(host, own), "ping", "-n", ...pattern, NAMESERVER);
    });
    expect(containing(frames, marker)).toBeGreaterThan(0);
    expect(await host.findings()).toEqual([]);
  },
);

each(
  "with published ports it has docker_gwbridge, also when another network is connected",
  async (host) => {
    const own = `port-${host.name}`;
    const publish = ["-p", `${PUBLISHED}:80`];
    await start(host, own, "plain", ...publish);
    await inNetns(await netnsOf(host, own), "true");
    const serve = "httpd -p 80 -h /bin";
    await host.docker("exec", own, "/bin/sh", "-c", serve);
    const works = async (links: string[]): Promise<void> => {
      expect(await ways(host, own)).toEqual({ links, by: links.at(1) });
      await eventually(20_000, "the published port", async () =>
        expect(await connects(linkAddress(host), PUBLISHED)).toBe(true),
      );
    };
    await works(["eth0", "eth1"]);
    await host.docker("network", "connect", "other", own);
    await works(["eth0", "eth1", "eth2"]);
    await host.docker("rm", "-f", own);
  },
);

each("over IPv6 it leaves where the host forwards that", async (host) => {
  const own = `six-${host.name}`;
  await start(host, own, "six");
  expect(await ways(host, own)).toEqual({ links: ["eth0"], by: "eth0" });
  const outside = `2001:db8::${nextTo(host).name.slice(1)}`;
  const netns = await netnsOf(host, own);
  await eventually(20_000, "an answer", () =>
    inNetns(netns, "ping", "-n", "-c", "1", "-W", "1", outside),
  );
  await host.docker("rm", "-f", own);
});

each(
  "networks are connected and disconnected while it runs: it leaves all the time",
  async (host) => {
    const own = `two-${host.name}`;
    await start(host, own, "inner");
    expect(await ways(host, own)).toEqual({ links: ["eth0"], by: "none" });
    await host.docker("network", "connect", "plain", own);
    expect(await ways(host, own)).toEqual({ links: ["eth0", "eth1"], by: "eth1" });
    expect(await pings(host, own, NAMESERVER)).toBe(3);
    await host.docker("network", "connect", "other", own);
    expect((await ways(host, own)).links).toEqual(["eth0", "eth1", "eth2"]);
    expect(await pings(host, own, NAMESERVER)).toBe(3);
    await host.docker("network", "disconnect", "plain", own);
    expect(await ways(host, own)).toEqual({ links: ["eth0", "eth2"], by: "eth2" });
    expect(await pings(host, own, NAMESERVER)).toBe(3);
    await host.docker("network", "connect", "bridge", own);
    expect(await pings(host, own, NAMESERVER)).toBe(3);
    await host.docker("rm", "-f", own);
  },
);

each(
  "containers of two networks do not meet, and no container gets to the mesh or speaks VXLAN for its host",
  async (host) => {
    const own = `plain-${host.name}`;
    const netns = await netnsOf(host, own);
    const far = await addressOf(nextTo(host), `secret-${nextTo(host).name}`, "secret");
    const here = await addressOf(host, `secret-${host.name}`, "secret");
    const sealed = await counter(host, "overlay_ts", "aroundNetwork");
    for (const address of [far, here]) expect(await pings(host, own, address)).toBe(0);
    expect(await counter(host, "overlay_ts", "aroundNetwork")).toBeGreaterThan(sealed);
    const other = linkAddress(nextTo(host));
    for (const ip of [other, linkAddress(host)]) {
      const before = await counter(host, "overlay_ts", "toMesh");
      const to = `TCP4:${ip}:${DEFAULT_PORTS.gossip},connect-timeout=2`;
      await expect(inNetns(netns, "socat", "-u", "OPEN:/dev/null", to)).rejects.toThrow();
      expect(await counter(host, "overlay_ts", "toMesh")).toBeGreaterThan(before);
    }
    for (const [ip, why] of [
      [other, "forwarded"],
      [linkAddress(host), "stranger"],
    ] as const) {
      const before = await counter(host, "overlay_ts", why);
      const to = `UDP4-SENDTO:${ip}:${DEFAULT_PORTS.vxlanPlain}`;
      await inNetns(netns, "socat", "-u", "EXEC:/bin/echo spoofed frame", to);
      await eventually(10_000, why, async () =>
        expect(await counter(host, "overlay_ts", why)).toBeGreaterThan(before),
      );
    }
  },
);

each(
  "an agent that is killed, and one that starts, cost no packet of what is outside",
  async (host) => {
    const pinging = await Pinging.start(host, `plain-${host.name}`, NAMESERVER);
    await host.stopService("agent", "KILL");
    host.startAgent();
    await eventually(60_000, "agreement", () => host.agrees());
    expect((await pinging.stop()).lost).toEqual([]);
    expect(await ways(host, `plain-${host.name}`)).toEqual({ links: ["eth0"], by: "eth0" });
  },
);

each("all rules are flushed, as a firewall's reload does: they are put back", async (host) => {
  const own = `plain-${host.name}`;
  await host.exec("nft", "delete", "table", "inet", "overlay_ts_egress");
  const rules = "iptables -F DOCKER-USER 2>/dev/null || true";
  await host.exec(...host.withEngine("sh", "-ec", rules));
  await eventually(30_000, "the way out", async () => {
    expect(await host.findings()).toEqual([]);
    expect(await pings(host, own, NAMESERVER)).toBe(3);
  });
});

each(
  "nothing of an encrypted network leaves in clear, whatever its container loses, a second network or not",
  async (host) => {
    const k = Number(host.name.slice(1));
    const far = await addressOf(nextTo(host), `secret-${nextTo(host).name}`, "secret");
    const own = `lost-${host.name}`;
    const marker = newMarker();
    const pattern = ["-p", marker.toString("hex"), "-c", "3", "-i", "0.2", "-W", "1"];
    /** What it still sends with one thing less; what is lost comes back with another container. */
    const sendsWithout = async (loss: string, ...networks: string[]): Promise<void> => {
      await start(host, own, "secret");
      for (const network of networks) await host.docker("network", "connect", network, own);
      await eventually(30_000, "the path", async () => expect(await pings(host, own, far)).toBe(3));
      const netns = await netnsOf(host, own);
      const routes = await inNetns(netns, "ip", "route", "show", "dev", "eth0", "scope", "link");
      const [subnet = ""] = routes.split(" ");
      await inNetns(netns, ...loss.replace("SUBNET", subnet).split(" "));
      await inNetns(netns, "ping", "-n", ...pattern, far).catch(() => {});
    };
    const end = (): Promise<string> => host.docker("rm", "-f", own);
    const before = await counter(host, "overlay_ts", "aroundNetwork");
    const frames = await captured(directory, k, async () => {
      await sendsWithout("ip route del SUBNET dev eth0");
      await end();
      for (const loss of ["ip route del SUBNET dev eth0", "ip address flush dev eth0"]) {
        await sendsWithout(loss, "plain");
        await end();
      }
      await sendsWithout("ip link del eth0", "plain");
    });
    expect(containing(frames, marker)).toBe(0);
    expect(await counter(host, "overlay_ts", "aroundNetwork")).toBeGreaterThan(before);
    // Without the guards it leaves by the second network: the test can fail.
    await whileFrozen(host, async () => {
      await host.exec("nft", "delete", "table", "inet", "overlay_ts");
      const frames = await captured(directory, k, async () => {
        await inNetns(await netnsOf(host, own), "ping", "-n", ...pattern, far).catch(() => {});
      });
      expect(containing(frames, marker)).toBeGreaterThan(0);
    });
    await end();
    await eventually(30_000, "agreement", () => host.agrees());
  },
);
