import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { addressOf, GONE, OURS, pings, refusal, SLEEP, start } from "./containers.ts";
import { IMAGE, Lab, startAgent } from "./lab.ts";

/**
 * What Docker's users do with a network of ours, the same on each engine: two hosts, one engine of
 * each kind, and each in turn is the one that is used while the other looks on.
 */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-docker-test-"));
let lab: Lab;

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 2, docker: true, engines: ENGINE_KINDS, say: () => {} });
  await lab.form(() => {});
});

afterAll(() => Lab.down(directory));

describe.each(ENGINE_KINDS)("Docker %s", (kind) => {
  const network = `net${kind.replace(".", "")}`;
  let host: LabHost;
  let other: LabHost;
  let far: string;

  beforeAll(async () => {
    const hosts = lab.hosts as [LabHost, LabHost];
    [host, other] = kind === ENGINE_KINDS[0] ? hosts : (hosts.toReversed() as [LabHost, LabHost]);
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

  const subnet = (rest: string): string => `10.${kind === "20.10" ? 81 : 82}.0.${rest}`;
  const begin = (name: string, ...options: string[]): Promise<string> =>
    start(host, name, network, "--label", "test", "--stop-signal", "KILL", ...options);
  const inspect = async (what: string, ...of: string[]): Promise<string> =>
    (await host.docker("inspect", "-f", what, ...of)).trim();

  test("is what runs here", async () => {
    expect(await host.docker("version", "-f", "{{.Server.Version}}")).toContain(`${kind}.`);
  });

  test("run, ping both ways, rm", async () => {
    const address = await begin("c1");
    expect(await pings(host, "c1", far)).toBe(3);
    expect(await pings(other, `far-${network}`, address)).toBe(3);
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
    expect(await pings(host, "c1", far)).toBe(3);
    const run = (...options: string[]): Promise<string> =>
      refusal(host.docker("run", "--rm", "--network", network, ...options, IMAGE, "/bin/true"));
    expect(await run("--ip", subnet("9"))).toMatch(/is used by another container/);
    expect(await run("--ip", far)).toMatch(/belongs to the addresses of host h\d/);
    expect(await run("--ip", "10.99.0.1")).toMatch(/10\.99\.0\.1/);
    expect(await run("--mac-address", "02:42:0a:00:00:01")).toMatch(/derives from addresses/);
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
    expect(await pings(host, "c1", far)).toBe(3);
    await host.docker("network", "disconnect", network, "c1");
    expect(await pings(host, "c1", far)).toBe(0);
    await host.docker("network", "connect", network, "c1");
    expect(await pings(host, "c1", far)).toBe(3);
  });

  test("-p, with the bridge networks' way out", async () => {
    const web = ["-p", "8080:8080", IMAGE, "/bin/httpd", "-f", "-p", "8080", "-h", "/bin"];
    const options = ["--label", "test", "--name", "web", "--network", network];
    await host.docker("run", "-d", ...options, ...web);
    const url = `http://198.51.100.${host.name.slice(1)}:8080/echo`;
    const fetched = await other.exec("/bin/busybox", "wget", "-q", "-O", "-", url);
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
    expect(await pings(host, "i1", address)).toBe(3);
    await other.docker("rm", "-f", `far-${inside}`);
  });

  test("restart, stop and start, and a program that ends under --restart always", async () => {
    await begin("c1", "--restart", "always", "--ip", subnet("11"));
    await host.docker("restart", "-t", "0", "c1");
    expect(await pings(host, "c1", far)).toBe(3);
    await host.docker("stop", "-t", "0", "c1");
    await host.docker("start", "c1");
    expect(await pings(host, "c1", far)).toBe(3);
    const pid = await inspect("{{.State.Pid}}", "c1");
    await host.exec("kill", "-9", pid);
    await eventually(20_000, "another process", async () => {
      expect(await inspect("{{.State.Running}} {{.State.Pid}}", "c1")).toMatch(
        new RegExp(`^true (?!${pid}$)`),
      );
    });
    expect(await addressOf(host, "c1", network)).toBe(subnet("11"));
    expect(await pings(host, "c1", far)).toBe(3);
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
      expect(await pings(other, `far-${network}`, await addressOf(host, "stays", network))).toBe(3);
      await host.docker("start", "goes");
      expect(await pings(host, "goes", far)).toBe(3);
      await eventually(60_000, "agreement", () => host.overlay("verify"));
    },
  );

  test("the agent ends by SIGKILL: traffic goes on, Docker waits for it", async () => {
    const address = await begin("goes-on");
    await begin("ends");
    await host.stopService("agent", "KILL");
    expect(await pings(other, `far-${network}`, address)).toBe(3);
    const both = Promise.all([begin("begins"), host.docker("rm", "-f", "ends")]);
    startAgent(host, true);
    const [later] = await both;
    // What an agent says in its first moments may reach the others by comparison only.
    await eventually(10_000, "word of the new container", async () => {
      expect(await pings(other, `far-${network}`, later)).toBe(3);
    });
    await eventually(60_000, "agreement", () => host.overlay("verify"));
  });

  test("the agent's database is lost: containers and network are known again", async () => {
    const address = await begin("goes-on");
    await host.stopService("agent", "KILL");
    await host.exec("sh", "-c", "rm $OVERLAY_TS_DATA_DIR/agent/agent.db*");
    startAgent(host, true);
    await eventually(90_000, "agreement", async () => {
      expect(await host.overlay("endpoint", "ls")).toContain(address);
      await host.overlay("verify");
    });
    expect(await pings(other, `far-${network}`, await begin("begins"))).toBe(3);
    expect(await pings(other, `far-${network}`, address)).toBe(3);
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
