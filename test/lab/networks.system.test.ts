import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { eventually, type LabHost, OVERLAY_TS } from "../support/lab-host.ts";
import { addressOf, GONE, OURS, pings, reaches, refusal, SLEEP, start } from "./containers.ts";
import { IMAGE, Lab } from "./lab.ts";

/** What networks are, where they are and when they end: three hosts, an engine of each kind. */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-networks-test-"));
let lab: Lab;
let hosts: [LabHost, LabHost, LabHost];
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: true, engines: ENGINE_KINDS, say: () => {} });
  await lab.form(() => {});
  hosts = [...lab.hosts] as [LabHost, LabHost, LabHost];
  [h1, h2, h3] = hosts;
});

afterAll(() => Lab.down(directory));

afterEach(async () => {
  for (const host of hosts) {
    const all = (await host.docker("ps", "-aq")).split("\n").filter(Boolean);
    if (all.length > 0) await host.docker("rm", "-f", ...all);
  }
});

const PLAIN = ["network", "create", "-d", "overlay-ts", "--attachable"];

async function everywhere(network: string): Promise<void> {
  for (const host of hosts) await host.waitForNetwork(network);
}

async function goneEverywhere(network: string): Promise<void> {
  for (const host of hosts)
    await eventually(20_000, `the end of ${network} on ${host.name}`, async () => {
      expect(await refusal(host.docker("network", "inspect", network))).toMatch(GONE);
    });
  expect(await clusterId(network)).toBeUndefined();
}

async function clusterId(network: string): Promise<string | undefined> {
  const all = await h1.ask<
    {
      id: string;
      name?: string;
    }[]
  >("networks");
  return all.find(({ name }) => name === network)?.id;
}

/** All that the kernel, Docker and the tables of the hosts say agrees. */
async function allAgree(): Promise<void> {
  for (const host of hosts)
    await eventually(20_000, `agreement on ${host.name}`, () => host.agrees());
}

describe("a network ends", () => {
  test("when it is removed where it was made and nobody refers to it, moments after its last container", async () => {
    await h1.docker(...OURS, "ends");
    await everywhere("ends");
    await start(h2, "last", "ends");
    await h2.docker("rm", "-f", "last");
    await eventually(10_000, "word of it", async () => {
      expect(await h1.overlay("network", "inspect", "ends")).toMatch(/"neededBy": \[\]/);
    });
    await h1.docker("network", "rm", "ends");
    await goneEverywhere("ends");
  });

  test("not while a stopped container of another host refers to it, and that one starts again", async () => {
    await h1.docker(...OURS, "kept");
    await everywhere("kept");
    const address = await start(h3, "other", "kept");
    await start(h2, "stopped", "kept", "--ip", await spare("kept", 9));
    await h2.docker("stop", "-t", "0", "stopped");
    await h3.docker("rm", "-f", "other");
    await eventually(20_000, "word of the stopped one", async () => {
      expect(await h1.ask("networks/inspect?name=kept")).toMatchObject({ neededBy: ["h2"] });
    });
    const id = await clusterId("kept");
    await h1.docker("network", "rm", "kept");
    await h1.waitForNetwork("kept");
    expect(await clusterId("kept")).toBe(id);
    const said = await refusal(h1.overlay("network", "rm", "kept"));
    expect(said).toMatch(/network kept is used on h2.*also stopped ones/s);
    await start(h3, "other", "kept", "--ip", address);
    await h2.docker("start", "stopped");
    await reaches(h2, "stopped", address);
    await allAgree();
  });

  test("not by its removal on a host that did not make it, stopped containers there or not", async () => {
    await h1.docker(...OURS, "elsewhere");
    await everywhere("elsewhere");
    const ip = await spare("elsewhere", 11);
    await start(h2, "stopped", "elsewhere", "--ip", ip, "--network-alias", "web");
    await h2.docker("stop", "-t", "0", "stopped");
    await h2.docker("network", "rm", "elsewhere");
    await h2.waitForNetwork("elsewhere");
    // Docker would look for the id of the network before: the container was told the new one.
    await eventually(20_000, "the container's start", () => h2.docker("start", "stopped"));
    expect(await addressOf(h2, "stopped", "elsewhere")).toBe(ip);
    const aliases = '{{(index .NetworkSettings.Networks "elsewhere").Aliases}}';
    expect(await h2.docker("inspect", "-f", aliases, "stopped")).toContain("web");
    await h2.docker("rm", "-f", "stopped");
    await h2.docker("network", "prune", "-f");
    await h2.docker("system", "prune", "-f");
    await h2.waitForNetwork("elsewhere");
    expect(await clusterId("elsewhere")).toBeDefined();
  });

  test.each(["20.10", "28.5"] as const)(
    "nor when one that Docker %s made is made again on the other two under its name, with its container connected to it, as tools do",
    async (kind) => {
      const maker = hosts[ENGINE_KINDS.indexOf(kind)]!;
      const others = hosts.filter((host) => host !== maker);
      const again = `again-${maker.name}`;
      await maker.docker(...OURS, again);
      await everywhere(again);
      const address = await start(maker, "first", again);
      for (const host of others) await start(host, "moved", again);
      const id = await clusterId(again);
      for (let round = 0; round < 3; round++) {
        await Promise.all(
          others.map(async (host) => {
            await host.docker("network", "disconnect", "-f", again, "moved");
            await host.docker("network", "rm", again);
            // The view may be back already: that it exists is said then.
            const made = host.docker(...OURS, again).catch(() => "");
            await made;
            await eventually(20_000, `the connection on ${host.name}`, async () => {
              const said = await refusal(host.docker("network", "connect", again, "moved"));
              expect(said).toMatch(/^succeeded|already exists in network/);
            });
          }),
        );
        for (const host of others)
          await eventually(20_000, `round ${round} on ${host.name}`, async () => {
            expect(await pings(host, "moved", address)).toBe(3);
            const shown = await addressOf(host, "moved", again);
            expect(await host.docker("exec", "moved", "/bin/ip", "addr")).toContain(
              `inet ${shown}/`,
            );
            await host.agrees();
          });
      }
      expect(await clusterId(again)).toBe(id);
      // What a refused connection leaves on the engine is seen.
      const lost = ["network", "connect", "--ip", address, again, "lost"];
      await others[0]!.docker("run", "-d", "--name", "lost", ...SLEEP);
      expect(await refusal(others[0]!.docker(...lost))).toMatch(/belongs to/);
      await eventually(20_000, "what is said of it", async () =>
        expect(await refusal(others[0]!.overlay("verify"))).toMatch(
          /container lost is to be on it and is not/,
        ),
      );
    },
  );

  test("with the controller away the end waits for it, and the view does not come back meanwhile", async () => {
    await h2.docker(...OURS, "later");
    await everywhere("later");
    await h1.stopService("controller", "KILL");
    await h2.docker("network", "rm", "later");
    expect(await clusterId("later")).toBeDefined();
    expect(await refusal(h2.docker("network", "inspect", "later"))).toMatch(GONE);
    h1.startController();
    await goneEverywhere("later");
  });
});

/** An address outside the dynamic range, whatever subnet it got. */
async function spare(network: string, last: number): Promise<string> {
  const format = "{{(index .IPAM.Config 0).Subnet}}";
  const subnet = (await h1.docker("network", "inspect", "-f", format, network)).trim();
  return subnet.replace(/\d+\/\d+$/, String(last));
}

describe("with Docker's own IPAM", () => {
  test("made on three hosts at once it is one network, and no two containers share an address", async () => {
    await Promise.all(hosts.map((host) => host.docker(...PLAIN, "ansible").catch(() => "")));
    await everywhere("ansible");
    await eventually(20_000, "one network of that name", async () => {
      const all = await h1.ask<{ name?: string }[]>("networks");
      expect(all.filter(({ name }) => name === "ansible")).toHaveLength(1);
      expect(all.filter(({ name }) => name === undefined)).toHaveLength(0);
    });
    await eventually(20_000, "views of that one", async () => {
      for (const host of hosts)
        await host.docker("run", "--rm", "--network", "ansible", IMAGE, "/bin/true");
    });
    const addresses = await Promise.all(
      hosts.flatMap((host) => [1, 2, 3].map((n) => start(host, `c${n}`, "ansible"))),
    );
    expect(new Set(addresses).size).toBe(9);
    for (const host of hosts) for (const address of addresses) await reaches(host, "c1", address);
  });

  test("networks of several hosts have subnets of their own, though each engine would choose the same", async () => {
    const names = ["one", "two", "three"];
    await Promise.all(hosts.map((host, i) => host.docker(...PLAIN, names[i] ?? "")));
    for (const name of names) await everywhere(name);
    const format = "{{(index .IPAM.Config 0).Subnet}}";
    await eventually(20_000, "three subnets", async () => {
      for (const host of hosts) {
        const subnets = await host.docker("network", "inspect", "-f", format, ...names);
        expect(new Set(subnets.trim().split("\n")).size).toBe(3);
      }
    });
    await start(h1, "all", "one");
    for (const name of ["two", "three"]) await h1.docker("network", "connect", name, "all");
    for (const [i, name] of names.entries()) {
      const address = await start(hosts[(i + 1) % 3] ?? h2, `on-${name}`, name);
      await reaches(h1, "all", address);
    }
    await allAgree();
  });

  test("used up, a host says so, and the others still have addresses", async () => {
    await h1.docker(...PLAIN, "--subnet", "10.70.0.0/28", "small");
    await everywhere("small");
    const given: string[] = [await start(h2, "other", "small")];
    // Gateway .1, the lower half up to .7, then what the other host does not have: Docker goes on upwards.
    const failures: string[] = [];
    for (let n = 0; n < 7; n++)
      await start(h1, `c${n}`, "small").then(
        (address) => given.push(address),
        (error: { stderr?: string }) => failures.push(error.stderr ?? ""),
      );
    expect(new Set(given).size).toBe(given.length);
    expect(given.length).toBe(7);
    expect(failures[0]).toMatch(/full on this host.*--ipam-driver overlay-ts/s);
    expect(await start(h3, "third", "small").catch(() => "full")).toMatch(/10\.70\.0\.|full/);
  });

  test("--aux-address is nobody's, on any host, with either IPAM; --mac-address is kept, also Docker's own kind", async () => {
    const aux = ["--subnet", "10.71.0.0/28", "--aux-address", "printer=10.71.0.9"];
    await h1.docker(...PLAIN, ...aux, "--aux-address", "own=10.71.0.2", "auxiliary");
    await everywhere("auxiliary");
    const mac = "02:11:22:33:44:55";
    const addresses = [await start(h1, "c0", "auxiliary", "--mac-address", mac)];
    expect(await h1.docker("exec", "c0", "/bin/ip", "link", "show", "eth0")).toContain(mac);
    for (const name of ["c1", "c2", "c3"]) addresses.push(await start(h2, name, "auxiliary"));
    expect(addresses).not.toContain("10.71.0.9");
    expect(addresses).not.toContain("10.71.0.2");
    const taken = h2.docker(
      "run",
      "--network",
      "auxiliary",
      "--ip",
      "10.71.0.9",
      IMAGE,
      "/bin/true",
    );
    expect(await refusal(taken)).toMatch(/10\.71\.0\.9/);
    await reaches(h2, "c1", addresses[0] ?? "");
    // What tools that recreate containers pass back: a MAC of Docker's own form, with another address.
    const kept = await start(h1, "kept", "auxiliary", "--mac-address", "02:42:0a:47:00:0c");
    expect(kept).not.toBe("10.71.0.12");
    await reaches(h2, "c1", kept);
    const theirs = `02:42:0a:47:00:${Number(addresses[1]?.split(".")[3]).toString(16).padStart(2, "0")}`;
    const theft = start(h1, "thief", "auxiliary", "--mac-address", theirs);
    expect(await refusal(theft)).toMatch(/MAC address .* is another container's/);
    await allAgree();
  });
});

describe("IPv6", () => {
  test.each([
    ["Docker's own IPAM", PLAIN, "fd00:61::/64"],
    ["ours", OURS, "fd00:62::/64"],
  ])(
    "dual stack with %s: across hosts in both families, given by name and not",
    async (_, create, subnet) => {
      const name = `dual-${subnet.slice(5, 7)}`;
      await h1.docker(...create, "--ipv6", "--subnet", subnet, name);
      await everywhere(name);
      const named = subnet.replace("::/64", "::ffff:0:0:99");
      await start(h1, "d1", name);
      await start(h2, "d2", name);
      await start(h3, "d3", name, "--ip6", named);
      const ipv6 = async (host: LabHost, container: string): Promise<string> => {
        const format = `{{(index .NetworkSettings.Networks "${name}").GlobalIPv6Address}}`;
        return (await host.docker("inspect", "-f", format, container)).trim();
      };
      const addresses = [await ipv6(h1, "d1"), await ipv6(h2, "d2"), named];
      expect(new Set(addresses).size).toBe(3);
      expect(await ipv6(h3, "d3")).toBe(named);
      for (const [i, host] of hosts.entries()) {
        for (const address of addresses) await reaches(host, `d${i + 1}`, address);
        // Of IPv4 the engine chose the subnet: it gives way to one that the cluster had, and with it the address is another.
        await eventually(20_000, `the IPv4 address of d1 from d${i + 1}`, async () =>
          expect(await pings(host, `d${i + 1}`, await addressOf(h1, "d1", name))).toBe(3),
        );
      }
      await allAgree();
    },
  );
});

describe("network expose", () => {
  test("gives the host an address until it is hidden, through an agent's kill, and no container a way through", async () => {
    await h1.docker(...OURS, "--subnet", "10.72.0.0/24", "shown");
    await everywhere("shown");
    const web = [
      "--network",
      "shown",
      "--name",
      "web",
      IMAGE,
      "/bin/httpd",
      "-f",
      "-p",
      "80",
      "-h",
      "/bin",
    ];
    await h2.docker("run", "-d", ...web);
    const address = await addressOf(h2, "web", "shown");
    const fetch = (host: LabHost): Promise<string> =>
      host.exec("timeout", "5", "/bin/busybox", "wget", "-q", "-O", "-", `http://${address}/echo`);
    await expect(fetch(h1)).rejects.toThrow();
    const exposed = JSON.parse(await h1.overlay("network", "expose", "shown", "--json")) as {
      link: string;
      ips: string[];
    };
    // Started is not yet listening.
    const fetched = await eventually(20_000, "the container's server", () => fetch(h1));
    expect(fetched.length).toBeGreaterThan(1000);
    expect(JSON.parse(await h1.overlay("network", "expose", "shown", "--json"))).toEqual(exposed);
    // The host is reached too, and what it forwards between its interfaces goes nowhere.
    await reaches(h2, "web", exposed.ips[0] ?? "");
    await h1.exec("ip", "link", "set", exposed.link, "down");
    await h1.stopService("agent", "KILL");
    h1.startAgent();
    await eventually(20_000, "the address again", () => fetch(h1));
    await allAgree();
    expect(await refusal(h1.overlay("network", "rm", "shown"))).toMatch(/used on h1, h2.*hide/s);
    await h1.overlay("network", "hide", "shown");
    await expect(fetch(h1)).rejects.toThrow();
    expect(await h1.exec("ip", "-br", "link")).not.toContain(exposed.link);
    expect(await refusal(h1.overlay("network", "hide", "shown"))).toMatch(
      /no address in network shown/,
    );
    await allAgree();
  });

  test("of two networks with one subnet only one can be exposed on a host", async () => {
    for (const name of ["same1", "same2"])
      await h1.docker(...OURS, "--subnet", "10.73.0.0/24", name);
    await h1.overlay("network", "expose", "same1");
    expect(await refusal(h1.overlay("network", "expose", "same2"))).toMatch(
      /reaches 10\.73\.0\.0\/24 by ovc\w+ already/,
    );
    await h1.overlay("network", "hide", "same1");
    await h1.overlay("network", "expose", "same2");
    await h1.overlay("network", "hide", "same2");
  });
});

describe("-o multicast", () => {
  test("reaches all members on all hosts, and without it nobody elsewhere", async () => {
    for (const [name, ...options] of [["many", "-o", "multicast=true"], ["few"]] as const) {
      await h1.docker(...OURS, ...options, name);
      await everywhere(name);
      const expected = name === "many" ? 2 : 0;
      for (const host of [h2, h3])
        await start(
          host,
          `${name}-listens`,
          name,
          "--sysctl",
          "net.ipv4.icmp_echo_ignore_broadcasts=0",
        );
      await start(h1, `${name}-asks`, name, "--cap-add", "NET_ADMIN");
      await h1.docker(
        "exec",
        `${name}-asks`,
        "/bin/ip",
        "route",
        "add",
        "224.0.0.0/4",
        "dev",
        "eth0",
      );
      // The hosts of those that listen are known a moment after they started, and of `few` as well.
      for (const host of [h2, h3])
        await reaches(h1, `${name}-asks`, await addressOf(host, `${name}-listens`, name));
      await eventually(20_000, `those that answer on ${name}`, async () => {
        const answers = await h1
          .docker("exec", `${name}-asks`, "/bin/ping", "-c", "2", "-W", "2", "224.0.0.1")
          .catch((error: { stdout?: string }) => error.stdout ?? "");
        const from = [...answers.matchAll(/from ([\d.]+)/g)].map(([, address]) => address);
        expect(new Set(from).size).toBe(expected);
      });
    }
    await allAgree();
  });
});

describe("MTU", () => {
  test("containers are told it, -o mtu= is kept, and what does not fit is refused with what does", async () => {
    await h1.docker(...OURS, "usual");
    await h1.docker(...OURS, "-o", "mtu=1300", "narrow");
    for (const [network, mtu] of [
      ["usual", 1450],
      ["narrow", 1300],
    ] as const) {
      await everywhere(network);
      const address = await start(h1, `${network}1`, network);
      await start(h2, `${network}2`, network);
      expect(await h2.docker("exec", `${network}2`, "/bin/ip", "link", "show", "eth0")).toContain(
        `mtu ${mtu}`,
      );
      await reaches(h2, `${network}2`, address);
      const full = ["exec", `${network}2`, "/bin/ping", "-c", "2", "-s", String(mtu - 28), address];
      expect(await h2.docker(...full)).toContain("2 packets received");
    }
    expect(await refusal(h1.docker(...OURS, "-o", "mtu=1451", "wide"))).toMatch(/576 to 1450/);
  });

  test("a host whose link got smaller refuses the networks that no longer fit", async () => {
    await h1.docker(...OURS, "fits");
    await everywhere("fits");
    await h3.overlay("leave");
    await h1.overlay("node", "rm", "h3");
    await h3.exec("ip", "link", "set", "eth0", "mtu", "1400");
    const token = (await h1.overlay("token", "create")).trim();
    const joined = await h3.output(OVERLAY_TS, "join", "--token", token, "198.51.100.1");
    expect(joined).toMatch(/fits.*needs an underlay of 1500/s);
    await h3.waitForNetwork("fits");
    expect(await refusal(start(h3, "not", "fits"))).toMatch(/MTU of 1450.*1350/s);
    await h1.docker(...OURS, "smaller");
    await everywhere("smaller");
    const address = await start(h3, "here", "smaller");
    await start(h1, "there", "smaller");
    await reaches(h1, "there", address);
    expect(existsSync(h3.path("/run/overlay-ts/netns"))).toBe(true);
  });
});
