import { existsSync, mkdtempSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { addressOf, GONE, OURS, pings, reaches, refusal, SLEEP, start } from "./containers.ts";
import { IMAGE, Lab, startAgent } from "./lab.ts";
import { Pinging } from "./pinging.ts";

/**
 * Four hosts with real engines, of three versions, and agents; three form the cluster, h4 is for what
 * must fail.
 */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-lab-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;
let h4: LabHost;
let members: LabHost[];
let token: string;

beforeAll(async () => {
  lab = await Lab.up({
    directory,
    hosts: 4,
    docker: true,
    engines: ["20.10", "28.5", "26.1", "26.1"],
    say: () => {},
  });
  [h1, h2, h3, h4] = lab.hosts as [LabHost, LabHost, LabHost, LabHost];
  members = [h1, h2, h3];
  token = (JSON.parse(await h1.overlay("init", "--json")) as { token: string }).token;
  for (const host of [h2, h3]) await host.overlay("join", "--token", token, "198.51.100.1");
});

afterAll(() => Lab.down(directory));

async function everywhere(network: string): Promise<void> {
  for (const host of members) await host.waitForNetwork(network);
}

async function remove(...names: string[]): Promise<void> {
  for (const host of members)
    for (const name of names) await host.docker("rm", "-f", name).catch(() => {});
}

async function clusterId(network: string): Promise<string> {
  const networks = await h1.ask<
    {
      id: string;
      name?: string;
    }[]
  >("networks");
  return networks.find(({ name }) => name === network)?.id ?? "";
}

function hasDevices(host: LabHost, id: string): boolean {
  return existsSync(host.path(`/run/overlay-ts/netns/${id}`));
}

async function allAgree(): Promise<void> {
  for (const host of members)
    await eventually(10_000, `agreement on ${host.name}`, () => host.agrees());
}

describe("a network made on one host", () => {
  test("is on every engine with its labels, and all containers reach each other", async () => {
    await h1.docker(...OURS, "--label", "com.example=yes", "app");
    await everywhere("app");
    const addresses: string[] = [];
    for (const host of members) addresses.push(await start(host, "c0", "app"));
    expect(new Set(addresses).size).toBe(3);
    for (const host of members) {
      for (const address of addresses) await reaches(host, "c0", address);
      const labels = await host.docker("network", "inspect", "-f", "{{json .Labels}}", "app");
      expect(JSON.parse(labels)).toEqual({ "com.example": "yes" });
    }
    await allAgree();
    await remove("c0");
  });

  test("with Docker's own IPAM, as plain `docker network create` makes it", async () => {
    await h2.docker("network", "create", "-d", "overlay-ts", "--attachable", "plain");
    await everywhere("plain");
    const own = await start(h2, "c0", "plain");
    const other = await start(h3, "c0", "plain");
    expect(own).not.toBe(other);
    await reaches(h2, "c0", other);
    await reaches(h3, "c0", own);
    await remove("c0");
  });

  test("--subnet, --ip-range, --gateway and --ip are kept", async () => {
    const range = [
      "--subnet",
      "10.77.0.0/24",
      "--ip-range",
      "10.77.0.128/25",
      "--gateway",
      "10.77.0.254",
    ];
    await h1.docker(...OURS, ...range, "ranged");
    await everywhere("ranged");
    expect(await start(h1, "c0", "ranged")).toMatch(/^10\.77\.0\.(1[2-9]\d|2\d\d)$/);
    expect(await start(h2, "c0", "ranged", "--ip", "10.77.0.9")).toBe("10.77.0.9");
    await reaches(h1, "c0", "10.77.0.9");
    const taken = h3.docker(
      "run",
      "--rm",
      "--network",
      "ranged",
      "--ip",
      "10.77.0.9",
      IMAGE,
      "/bin/true",
    );
    expect(await refusal(taken)).toMatch(/belongs to the addresses of host h2/);
    await remove("c0");
  });

  test("made by `overlay-ts network create` it is there as well", async () => {
    await h3.overlay("network", "create", "byhand", "--subnet", "10.78.0.0/24");
    await everywhere("byhand");
    await h1.overlay("network", "rm", "byhand");
    for (const host of members)
      await eventually(10_000, "its end", async () => {
        expect(await refusal(host.docker("network", "inspect", "byhand"))).toMatch(GONE);
      });
  });

  test("removed where it was made, it is gone everywhere; removed elsewhere, it comes back", async () => {
    await h1.docker(...OURS, "short");
    await everywhere("short");
    await h2.docker("network", "rm", "short");
    await h2.waitForNetwork("short");
    await h1.docker("network", "rm", "short");
    for (const host of members)
      await eventually(10_000, "its end", async () => {
        expect(await refusal(host.docker("network", "inspect", "short"))).toMatch(GONE);
      });
  });

  test("made on two hosts at once it is one network", async () => {
    await Promise.allSettled([h1.docker(...OURS, "twice"), h2.docker(...OURS, "twice")]);
    await everywhere("twice");
    await eventually(10_000, "one network", async () => {
      const networks = await h3.ask<
        {
          name?: string;
        }[]
      >("networks");
      expect(networks.filter(({ name }) => name === "twice")).toHaveLength(1);
      expect(networks.filter(({ name }) => name === undefined)).toHaveLength(0);
    });
    // The engine whose network gave way may still show that one.
    for (const host of [h1, h2])
      await eventually(20_000, `a view of that one on ${host.name}`, () =>
        host.docker("run", "--rm", "--network", "twice", IMAGE, "/bin/true"),
      );
    const first = await start(h1, "c0", "twice");
    await start(h2, "c0", "twice");
    await reaches(h2, "c0", first);
    await remove("c0");
  });

  test("a name that an engine has for a network of its own is told, not taken", async () => {
    await h3.docker("network", "create", "clash");
    await h1.docker(...OURS, "clash");
    await h2.waitForNetwork("clash");
    await eventually(10_000, "the conflict", async () => {
      const { docker } = await h3.status();
      expect(docker?.conflicts).toMatchObject([{ name: "clash", driver: "bridge" }]);
    });
    expect((await h3.docker("network", "inspect", "-f", "{{.Driver}}", "clash")).trim()).toBe(
      "bridge",
    );
    await h3.docker("network", "rm", "clash");
    await h3.waitForNetwork("clash");
  });

  test.each([
    [["-o", "encrypted=maybe"], /encrypted=maybe is neither true nor false/],
    [["-o", "encryption=rot13"], /rot13 is not one of none, wireguard, ipsec/],
    [["-o", "mtu=9000"], /does not fit/],
    [["-o", "vlan=3"], /knows no network option vlan/],
    [["--subnet", "198.51.100.0/25"], /overlaps 198\.51\.100\.0\/24, which host h\d uses/],
    [["--subnet", "10.255.240.0/24"], /overlaps 10\.255\.240\.0\/20/],
  ])("%j is refused with its reason, and leaves nothing", async (options, reason) => {
    expect(await refusal(h1.docker(...OURS, ...options, "refused"))).toMatch(reason);
    expect(await clusterId("refused")).toBe("");
  });
});

describe("containers", () => {
  test("on two networks; connected and disconnected while they run", async () => {
    for (const name of ["left", "right"]) await h1.docker(...OURS, name);
    for (const name of ["left", "right"]) await everywhere(name);
    const left = await start(h1, "le", "left");
    const right = await start(h2, "ri", "right");
    await start(h3, "both", "left");
    await reaches(h3, "both", left);
    expect(await pings(h3, "both", right)).toBe(0);
    await h3.docker("network", "connect", "right", "both");
    await reaches(h3, "both", right);
    await reaches(h3, "both", left);
    await h3.docker("network", "disconnect", "right", "both");
    expect(await pings(h3, "both", right)).toBe(0);
    await allAgree();
    await remove("le", "ri", "both");
  });

  test("two networks of one subnet do not see each other", async () => {
    for (const name of ["same1", "same2"]) {
      await h1.docker(...OURS, "--subnet", "10.79.0.0/24", name);
      await everywhere(name);
    }
    const first = await start(h1, "s1", "same1", "--ip", "10.79.0.10");
    await start(h2, "s2", "same1", "--ip", "10.79.0.20");
    await start(h2, "s3", "same2", "--ip", "10.79.0.30");
    const second = await start(h1, "s4", "same2", "--ip", "10.79.0.10");
    expect([first, second]).toEqual(["10.79.0.10", "10.79.0.10"]);
    await reaches(h1, "s1", "10.79.0.20");
    await reaches(h1, "s4", "10.79.0.30");
    expect(await pings(h1, "s1", "10.79.0.30")).toBe(0);
    expect(await pings(h1, "s4", "10.79.0.20")).toBe(0);
    await remove("s1", "s2", "s3", "s4");
  });

  test("-p publishes through docker_gwbridge, whose subnet is the cluster's on every host", async () => {
    const web = ["-p", "8080:8080", IMAGE, "/bin/httpd", "-f", "-p", "8080", "-h", "/bin"];
    await h1.docker("run", "-d", "--name", "web", "--network", "app", ...web);
    const get = ["/bin/busybox", "wget", "-q", "-O", "-", "http://198.51.100.1:8080/echo"];
    // Started is not yet listening.
    const fetched = await eventually(20_000, "the published server", () => h2.exec(...get));
    expect(fetched.length).toBeGreaterThan(1000);
    for (const host of members) {
      const subnets = await host.docker(
        "network",
        "inspect",
        "-f",
        "{{(index .IPAM.Config 0).Subnet}}",
        "docker_gwbridge",
      );
      expect(subnets.trim()).toBe("10.255.240.0/20");
    }
    await remove("web");
  });

  test("on an --internal network there is no way out", async () => {
    await h1.docker(...OURS, "--internal", "inside");
    await everywhere("inside");
    const address = await start(h1, "i1", "inside");
    await start(h2, "i2", "inside");
    await reaches(h2, "i2", address);
    const links = await h2.docker("exec", "i2", "/bin/ip", "-o", "link");
    expect(
      links
        .trim()
        .split("\n")
        .map((line) => /: (\w+)/.exec(line)?.[1]),
    ).toEqual(["lo", "eth0"]);
    await remove("i1", "i2");
  });

  test("cannot take another address or MAC", async () => {
    const honest = await start(h1, "honest", "app");
    await start(h2, "spoofer", "app", "--cap-add", "NET_ADMIN");
    await reaches(h2, "spoofer", honest);
    const own = await addressOf(h2, "spoofer", "app");
    const length = (
      await h2.docker("exec", "spoofer", "/bin/ip", "-o", "-4", "address", "show", "eth0")
    ).match(/\/(\d+)/)?.[1];
    const other = own.replace(/\d+$/, (last) => String(Number(last) ^ 1));
    const inside = (...command: string[]): Promise<string> =>
      h2.docker("exec", "spoofer", "/bin/ip", ...command);
    await inside("address", "del", `${own}/${length}`, "dev", "eth0");
    await inside("address", "add", `${other}/${length}`, "dev", "eth0");
    expect(await pings(h2, "spoofer", honest)).toBe(0);
    await inside("address", "del", `${other}/${length}`, "dev", "eth0");
    await inside("address", "add", `${own}/${length}`, "dev", "eth0");
    await reaches(h2, "spoofer", honest);
    await remove("honest", "spoofer");
  });
});

describe("lazy", () => {
  test("a host has a network's devices from its first container until a while after its last", async () => {
    await h1.docker(...OURS, "lazy");
    await everywhere("lazy");
    const id = await clusterId("lazy");
    const address = await start(h1, "z1", "lazy");
    expect(members.map((host) => hasDevices(host, id))).toEqual([true, false, false]);
    await start(h3, "z3", "lazy");
    await reaches(h3, "z3", address);
    expect(members.map((host) => hasDevices(host, id))).toEqual([true, false, true]);
    const endpoints = await h2.ask<
      {
        network: string;
      }[]
    >("endpoints");
    expect(endpoints.filter(({ network }) => network === "lazy")).toEqual([]);
    await remove("z1", "z3");
    await eventually(30_000, "the end of its devices", async () => {
      expect(members.map((host) => hasDevices(host, id))).toEqual([false, false, false]);
    });
    for (const host of members) {
      const names = readdirSync(host.path("/run/overlay-ts/netns"));
      expect(names).not.toContain(id);
    }
  });
});

describe("what is lost comes back", () => {
  test("a bridge set down, a device deleted, guards flushed: mended under the running container", async () => {
    const address = await start(h1, "m1", "app");
    await start(h2, "m2", "app");
    const id = await clusterId("app");
    const inside = (command: string): Promise<string> =>
      h2.exec("nsenter", `--net=/run/overlay-ts/netns/${id}`, "sh", "-c", command);
    for (const command of [
      "ip link set br0 down",
      "ip link del vx0",
      "ip neigh flush dev br0 nud permanent",
      "ip link set br0 mtu 1300",
      "nft delete table bridge overlay_ts",
    ]) {
      await inside(command);
      await eventually(20_000, `mending after ${command}`, async () => {
        if (command.startsWith("nft")) return;
        expect(await pings(h2, "m2", address)).toBe(3);
      });
    }
    await remove("m1", "m2");
  });

  test("the agent's database: containers run on, and are known again", async () => {
    const address = await start(h1, "d1", "app");
    const own = await start(h2, "d2", "app");
    await h2.stopService("agent", "KILL");
    await h2.exec("sh", "-c", "rm -f $OVERLAY_TS_DATA_DIR/agent/agent.db*");
    startAgent(h2, true);
    await eventually(20_000, "the agent", async () => {
      const { networks } = await h2.status();
      expect(networks).toMatchObject([{ name: "app", endpoints: 1 }]);
    });
    await reaches(h2, "d2", address);
    await reaches(h1, "d1", own);
    const later = await start(h2, "d3", "app");
    expect(later).not.toBe(own);
    await reaches(h1, "d1", later);
    await allAgree();
    await remove("d1", "d2", "d3");
  });
});

describe("an agent that is killed", () => {
  test("loses no ping, and finds what began and ended meanwhile", async () => {
    const address = await start(h1, "k1", "app");
    const going = await start(h2, "k2", "app");
    await start(h2, "ends", "app");
    const pinging = await Pinging.start(h1, "k1", going);
    await h2.stopService("agent", "KILL");
    const starting = h2.docker("run", "-d", "--name", "begins", "--network", "app", ...SLEEP);
    const ending = h2.docker("rm", "-f", "ends");
    // Both of them are waiting by then.
    await delay(1000);
    startAgent(h2, true);
    // Docker gives a plugin fifteen seconds. An agent that needs longer here is no fault of what is tested.
    await starting.catch(() => h2.docker("start", "begins"));
    await ending;
    await reaches(h1, "k1", await addressOf(h2, "begins", "app"));
    const { sent, lost } = await pinging.stop();
    expect(lost).toEqual([]);
    expect(sent).toBeGreaterThanOrEqual(20);
    await reaches(h2, "begins", address);
    await allAgree();
    await remove("k1", "k2", "begins");
  });

  test("the controller's end stops nothing that has its block", async () => {
    const address = await start(h1, "k1", "app");
    await start(h2, "k2", "app");
    await h1.stopService("controller", "KILL");
    await start(h2, "k3", "app");
    await reaches(h2, "k3", address);
    expect(await refusal(h2.docker(...OURS, "later"))).toMatch(
      /controller at 198\.51\.100\.1:7952/,
    );
    h1.startController();
    await eventually(10_000, "the controller", () => h1.overlay("token", "create"));
    await eventually(10_000, "its answer to h2", () => h2.docker(...OURS, "later"));
    await remove("k1", "k2", "k3");
  });
});

describe("joining", () => {
  test("before it, Docker is told why there are no networks of ours", async () => {
    expect(await refusal(h4.docker(...OURS, "early"))).toMatch(/not a member.*overlay-ts init/s);
    expect(await refusal(h4.overlay("init", "--encryption", "rot13"))).toMatch(
      /--encryption rot13 is not one of none, wireguard, ipsec/,
    );
  });

  test("a token that is used up, expired, of another cluster or no token is named", async () => {
    const join = (text: string): Promise<string> =>
      refusal(h4.overlay("join", "--token", text, "198.51.100.1"));
    const short = (await h1.overlay("token", "create", "--ttl", "1s")).trim();
    await delay(1500);
    expect(await join(short)).toMatch(/expired.*token create/s);
    expect(await join("nonsense")).toMatch(/not a token/);
    const other = token.replace(/^ovt1\.\w{32}/, `ovt1.${"0".repeat(32)}`);
    expect(await join(other)).toMatch(/not the controller of cluster 0000/);
    const root = token.split(".");
    root[2] = "A".repeat(43);
    expect(await join(root.join("."))).toMatch(/of another cluster than the token/);
    expect(await refusal(h4.overlay("join", "--token", token, "198.51.100.2"))).toMatch(
      /controller at 198\.51\.100\.2:7952\/tcp does not answer/,
    );
    expect(await refusal(h4.overlay("join", "198.51.100.1"))).toMatch(/a token is needed/);
    expect(
      await refusal(h4.overlay("join", "--token", token, "--name", "h2", "198.51.100.1")),
    ).toMatch(/another host is called h2/);
    expect(await refusal(h4.statusText())).toMatch(/succeeded: not joined/);
    expect(await refusal(h2.overlay("join", "--token", token, "198.51.100.1"))).toMatch(
      /a member of cluster/,
    );
    expect(await refusal(h2.overlay("token", "create"))).toMatch(/no controller runs on this host/);
  });

  test("fails loudly when the mesh's port is taken or the data path is blocked, and works when not", async () => {
    const taker = h4.service(
      "taker",
      "socat",
      "TCP-LISTEN:7947,bind=198.51.100.4,fork,reuseaddr",
      "STDOUT",
    );
    await eventually(10_000, "who takes the port", async () =>
      expect(await h4.exec("ss", "-Hltn", "sport = :7947")).not.toBe(""),
    );
    const taken = await refusal(h4.overlay("join", "--token", token, "198.51.100.1"));
    expect(taken).toMatch(
      /mesh port 198\.51\.100\.4:7947\/tcp is taken by socat \(process \d+\).*ss -Htlnp/s,
    );
    // Between two tries it says that it starts.
    await eventually(60_000, "what keeps it from starting", async () =>
      expect(await refusal(h4.statusText())).toMatch(/mesh port/),
    );
    taker.kill();
    await h4.exec(
      "sh",
      "-c",
      "for p in /proc/[0-9]*; do if grep -qs '^socat$' $p/comm; then kill ${p#/proc/}; fi; done",
    );
    await eventually(15_000, "the agent", () => h4.overlay("node", "ls"));
    await h4.overlay("leave");
    await h1.overlay("node", "rm", "h4");
    const rules =
      "add table inet block; add chain inet block in { type filter hook input priority -400; }; add rule inet block in udp dport 7948 drop";
    await h4.exec("nft", rules);
    const said = await refusal(h4.overlay("join", "--token", token, "198.51.100.1"));
    expect(said).toMatch(/data path does not work: no answer over VXLAN \(7948\/udp/);
    await h4.exec("nft", "delete table inet block");
    await eventually(15_000, "the data path", () => h4.overlay("probe"));
    members.push(h4);
    await everywhere("app");
    const address = await start(h1, "j1", "app");
    await start(h4, "j4", "app");
    await reaches(h4, "j4", address);
    await remove("j1", "j4");
  });

  test("a host that leaves keeps nothing, and may come back under its name when that is free", async () => {
    await start(h4, "v4", "app");
    expect(await refusal(h4.overlay("leave"))).toMatch(/containers here use app.*--force/s);
    await remove("v4");
    await h4.overlay("leave");
    members.pop();
    expect(await h4.statusText()).toMatch(/not joined/);
    expect(await h4.docker("network", "ls", "--filter", "driver=overlay-ts", "-q")).toBe("");
    expect(readdirSync(h4.path("/run/overlay-ts/netns"))).toEqual([]);
    expect(await h4.exec("nft", "list", "tables")).not.toContain("overlay_ts");
    expect(await refusal(h4.overlay("join", "--token", token, "198.51.100.1"))).toMatch(
      /another host is called h4/,
    );
    await h1.overlay("node", "rm", "h4");
    await h4.overlay("join", "--token", token, "198.51.100.1");
    members.push(h4);
    await everywhere("app");
    const address = await start(h1, "v1", "app");
    await start(h4, "v4", "app");
    await reaches(h4, "v4", address);
    await remove("v1", "v4");
  });

  test("a removed host is cut off at once", async () => {
    const address = await start(h1, "x1", "app");
    await start(h4, "x4", "app");
    await reaches(h4, "x4", address);
    await h1.overlay("node", "rm", "h4");
    await eventually(10_000, "silence", async () => {
      expect(await pings(h4, "x4", address)).toBe(0);
    });
    await eventually(10_000, "h2's word of it", async () => {
      const { peers } = await h2.status();
      expect(peers.map(({ name }) => name)).toEqual(["h1", "h3"]);
    });
    members.pop();
    await remove("x1");
  });
});
