import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { addressOf, GONE, OURS, pings, reaches, refusal, SLEEP, start } from "./containers.ts";
import { IMAGE, Lab, startAgent } from "./lab.ts";

/**
 * What Docker's users do with a network of ours, the same on each engine: one host for each
 * kind of engine, and each in turn is the one that is used while the next looks on.
 */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-docker-test-"));
let lab: Lab;

beforeAll(async () => {
  const hosts = ENGINE_KINDS.length;
  lab = await Lab.up({ directory, hosts, docker: true, engines: ENGINE_KINDS, say: () => {} });
  await lab.form(() => {});
});

afterAll(() => Lab.down(directory));

describe.each(ENGINE_KINDS)("Docker %s", (kind) => {
  const network = `net${kind.replace(".", "")}`;
  let host: LabHost;
  let other: LabHost;
  let far: string;

  beforeAll(async () => {
    const k = ENGINE_KINDS.indexOf(kind);
    host = lab.hosts[k]!;
    other = lab.hosts[(k + 1) % lab.hosts.length]!;
    await host.docker(...OURS, "--subnet", subnet("0/24"), "--label", "a=b", network);
    await other.waitForNetwork(network);
    far = await start(other, `far-${network}`, network);
  });

  beforeEach(async () => {
    const names = (await host.docker("ps", "-aq", "--filter", "label=test")).split("\n");
    await host.docker("rm", "-f", "none", ...names.filter(Boolean)).catch(() => {});
  });

  afterAll(async () => {
    await other.docker("rm", "-f", `far-${network}`);
  });

  const subnet = (rest: string): string => `10.${81 + ENGINE_KINDS.indexOf(kind)}.0.${rest}`;
  const begin = (name: string, ...options: string[]): Promise<string> =>
    start(host, name, network, "--label", "test", ...options);
  const inspect = async (what: string, ...of: string[]): Promise<string> =>
    (await host.docker("inspect", "-f", what, ...of)).trim();

  test("is what runs here, or newer where its Debian moves on", async () => {
    const version = await host.engineVersion();
    process.stdout.write(`Docker ${kind} is ${version} on ${host.name}\n`);
    if (kind === ENGINE_KINDS.at(-1)) expect(parseFloat(version)).toBeGreaterThanOrEqual(28.5);
    else expect(version).toContain(`${kind}.`);
  });

  test("run, ping both ways, rm", async () => {
    const address = await begin("c1");
    await reaches(host, "c1", far);
    await reaches(other, `far-${network}`, address);
    expect(await inspect('{{index .Labels "a"}}', network)).toBe("b");
    expect(await inspect("{{json .Containers}}", network)).toContain(address);
    await host.docker("rm", "-f", "c1");
    await eventually(30_000, "its end on the other host", async () => {
      expect(await other.overlay("endpoint", "ls")).not.toContain(address);
    });
  });

  test("--ip and --mac-address are kept, and what cannot be is refused", async () => {
    expect(await begin("c1", "--ip", subnet("9"), "--mac-address", "02:11:22:33:44:55")).toBe(
      subnet("9"),
    );
    expect(await host.docker("exec", "c1", "/bin/ip", "link", "show", "eth0")).toContain(
      "02:11:22:33:44:55",
    );
    await reaches(host, "c1", far);
    const run = (...options: string[]): Promise<string> =>
      refusal(host.docker("run", "--rm", "--network", network, ...options, IMAGE, "/bin/true"));
    expect(await run("--ip", subnet("9"))).toMatch(/is used by another container/);
    expect(await run("--ip", far)).toMatch(/belongs to the addresses of host h\d/);
    expect(await run("--ip", "10.99.0.1")).toMatch(/10\.99\.0\.1/);
    expect(await run("--mac-address", "02:11:22:33:44:55")).toMatch(/MAC/);
    await host.docker("rm", "-f", "c1");
    // What Docker itself made for another address, as tools pass it back.
    expect(await begin("c1", "--mac-address", "02:42:0a:00:00:01")).not.toBe("");
    await reaches(host, "c1", far);
    await host.docker("rm", "-f", "c1");
    expect(await begin("again", "--ip", subnet("9"))).toBe(subnet("9"));
  });

  test("connect and disconnect, of a container that runs and of one that does not", async () => {
    const options = ["--label", "test", "--name", "c1", "--network", "none"];
    await host.docker("create", ...options, ...SLEEP);
    await host.docker("network", "disconnect", "none", "c1");
    await host.docker("network", "connect", "--ip", subnet("10"), network, "c1");
    await host.docker("start", "c1");
    expect(await addressOf(host, "c1", network)).toBe(subnet("10"));
    await reaches(host, "c1", far);
    await host.docker("network", "disconnect", network, "c1");
    expect(await pings(host, "c1", far)).toBe(0);
    await host.docker("network", "connect", network, "c1");
    await reaches(host, "c1", far);
  });

  test("-p, with the bridge networks' way out", async () => {
    const web = ["-p", "8080:8080", IMAGE, "/bin/httpd", "-f", "-p", "8080", "-h", "/bin"];
    const options = ["--label", "test", "--name", "web", "--network", network];
    await host.docker("run", "-d", ...options, ...web);
    const url = `http://198.51.100.${host.name.slice(1)}:8080/echo`;
    // Started is not yet listening.
    const fetched = await eventually(20_000, "the published server", () =>
      other.exec("/bin/busybox", "wget", "-q", "-O", "-", url),
    );
    expect(fetched.length).toBeGreaterThan(1000);
  });

  test("--internal: no second interface", async () => {
    const inside = `in${network}`;
    await host.docker(...OURS, "--internal", inside);
    await other.waitForNetwork(inside);
    await start(host, "i1", inside, "--label", "test");
    const links = await host.docker("exec", "i1", "/bin/ip", "-o", "link");
    expect([...links.matchAll(/^\d+: (\w+)/gm)].map(([, name]) => name)).toEqual(["lo", "eth0"]);
    const address = await start(other, `far-${inside}`, inside);
    await reaches(host, "i1", address);
    await other.docker("rm", "-f", `far-${inside}`);
  });

  test("restart, stop and start, and a program that ends under --restart always", async () => {
    await begin("c1", "--restart", "always", "--ip", subnet("11"));
    await host.docker("restart", "-t", "0", "c1");
    await reaches(host, "c1", far);
    await host.docker("stop", "-t", "0", "c1");
    await host.docker("start", "c1");
    await reaches(host, "c1", far);
    const pid = await inspect("{{.State.Pid}}", "c1");
    await host.exec("kill", "-9", pid);
    await eventually(20_000, "another process", async () => {
      expect(await inspect("{{.State.Running}} {{.State.Pid}}", "c1")).toMatch(
        new RegExp(`^true (?!${pid}$)`),
      );
    });
    expect(await addressOf(host, "c1", network)).toBe(subnet("11"));
    await reaches(host, "c1", far);
  });

  test.each(["TERM", "KILL"] as const)(
    "the engine ends by SIG%s and comes back",
    async (signal) => {
      await begin("stays", "--restart", "always");
      await begin("goes");
      await host.stopEngine(signal);
      await host.startEngine(kind);
      await eventually(60_000, "the container with a restart policy", async () => {
        expect(await inspect("{{.State.Running}}", "stays")).toBe("true");
        expect(await pings(host, "stays", far)).toBe(3);
      });
      await reaches(other, `far-${network}`, await addressOf(host, "stays", network));
      await host.docker("start", "goes");
      await reaches(host, "goes", far);
      await eventually(60_000, "agreement", () => host.agrees());
    },
  );

  test("the agent ends by SIGKILL: traffic goes on, Docker waits for it", async () => {
    const address = await begin("goes-on");
    await begin("ends");
    await reaches(other, `far-${network}`, address);
    await host.stopService("agent", "KILL");
    expect(await pings(other, `far-${network}`, address)).toBe(3);
    const both = Promise.all([begin("begins"), host.docker("rm", "-f", "ends")]);
    startAgent(host, true);
    const [later] = await both;
    // What an agent says in its first moments may reach the others by comparison only.
    await eventually(10_000, "word of the new container", async () => {
      expect(await pings(other, `far-${network}`, later)).toBe(3);
    });
    await eventually(60_000, "agreement", () => host.agrees());
  });

  test("the agent's database is lost: containers and network are known again", async () => {
    const address = await begin("goes-on");
    await host.stopService("agent", "KILL");
    await host.exec("sh", "-c", "rm $OVERLAY_TS_DATA_DIR/agent/agent.db*");
    startAgent(host, true);
    await eventually(90_000, "agreement", async () => {
      expect(await host.overlay("endpoint", "ls")).toContain(address);
      await host.agrees();
    });
    await reaches(other, `far-${network}`, await begin("begins"));
    await reaches(other, `far-${network}`, address);
  });

  test("network rm, where nothing uses it", async () => {
    const short = `short${network}`;
    await host.docker(...OURS, short);
    await other.waitForNetwork(short);
    await host.docker("network", "rm", short);
    await eventually(30_000, "its end", async () => {
      expect(await refusal(other.docker("network", "inspect", short))).toMatch(GONE);
    });
  });
});

test("what Docker does not heed, and does not say, is in status: an IPv6 subnet alone, -p without a way in", async () => {
  // An engine knows its own subnets alone: each chooses what the first chose, and is made again with another.
  for (const [i, host] of lab.hosts.entries()) {
    const create = ["network", "create", "-d", "overlay-ts", "--subnet", `fd00:${90 + i}::/64`];
    await host.docker(...create, `four${i}`);
    await host.docker("network", "create", "-d", "overlay-ts", "--internal", `shut${i}`);
  }
  await eventually(60_000, "a subnet of its own for each", async () => {
    const listed = await lab.hosts[0]!.overlay("network", "ls");
    const subnets = ["four", "shut"].flatMap((of) =>
      lab.hosts.map((_, i) => new RegExp(`${of}${i} .*?([\\d.]+/\\d+)`).exec(listed)?.[1]),
    );
    expect(subnets).not.toContain(undefined);
    expect(new Set(subnets).size).toBe(subnets.length);
  });
  for (const [i, host] of lab.hosts.entries()) {
    const web = ["run", "-d", "--name", `web${i}`, "-p", "8080:80", "--network", `shut${i}`];
    // The view of the network may still be giving way to that with the other subnet.
    await eventually(60_000, `a container on shut${i}`, async () => {
      await host.docker("rm", "-f", `web${i}`).catch(() => {});
      await host.docker(...web, IMAGE, "/bin/sleep", "1000");
    });
    await eventually(60_000, `the word of it on ${host.name}`, async () => {
      const text = await host.statusText();
      const unheeded = `four${i} has IPv4 only: fd00:${90 + i}::/64 .*without --ipv6.*\n.*--ipv6`;
      expect(text).toMatch(new RegExp(unheeded));
      expect(text).toMatch(new RegExp(`nobody reaches the ports of .*: web${i} \\(80/tcp\\)`));
    });
    await host.docker("rm", "-f", `web${i}`);
    await host.docker("network", "rm", `four${i}`, `shut${i}`);
  }
});

test("since 28: an address outside of --ip-range is kept for all; no network without IPv4", async () => {
  const newest = lab.hosts[ENGINE_KINDS.indexOf("28.5")]!;
  const create = ["network", "create", "-d", "overlay-ts", "--attachable"];
  const range = ["--subnet", "10.88.0.0/24", "--ip-range", "10.88.0.0/28"];
  await newest.docker(...create, ...range, "--aux-address", "printer=10.88.0.200", "kept");
  const [oldest] = lab.hosts as [LabHost];
  await oldest.waitForNetwork("kept");
  const taking = ["run", "--rm", "--network", "kept", "--ip", "10.88.0.200", IMAGE, "/bin/true"];
  expect(await refusal(oldest.docker(...taking))).toMatch(/is reserved \(--aux-address\)/);
  const six = ["--ipv4=false", "--ipv6", "--subnet", "fd00:88::/64", "six"];
  expect(await refusal(newest.docker(...create, ...six))).toMatch(/leave --ipv4=false away/);
  // Docker gives a plugin the name, and asks it for none.
  const option = "driver-opt=com.docker.network.endpoint.ifname=net7";
  const named = ["--network", `name=kept,${option}`, IMAGE, "/bin/ip", "-o", "link"];
  expect(await newest.docker("run", "--rm", ...named)).toMatch(/: eth0@?/);
});
