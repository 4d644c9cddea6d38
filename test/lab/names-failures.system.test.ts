import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { CuttableSocket } from "../support/cuttable-socket.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { OUTSIDE } from "../support/upstream-dns.ts";
import { addressOf, ENDS_AT_ONCE, netnsOf, reaches, SLEEP, start } from "./containers.ts";
import { type Held, held } from "./held.ts";
import { IMAGE, startAgent, switchOf } from "./lab.ts";
import { Looking } from "./looking.ts";
import { allFind, askingIn, type Member, member, NamesLab, running, hasGate } from "./names-lab.ts";

/** Names while agents, engines, hosts and members end, and afterwards. Figures are printed, never asserted. */

vi.setConfig({ testTimeout: 300_000, hookTimeout: 600_000 });

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-names-failures-test-"));
let names: NamesLab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;
/** `c1` on h1, and so on, with the alias `all`. */
let members: Member[];
let before: Held[];

const KIND = { h1: "20.10", h2: "26.1" } as const;

beforeAll(async () => {
  names = await NamesLab.up(directory);
  [h1, h2, h3] = names.hosts;
  await names.network("app", "--subnet", "10.90.0.0/22");
  before = await Promise.all(names.hosts.map(held));
  members = await Promise.all(
    names.hosts.map((host, i) => member(host, `c${i + 1}`, "app", "--network-alias", "all")),
  );
  await allFind(members, "all", everyAddress());
});

afterAll(() => names.down());

function everyAddress(): string[] {
  return members.map(({ address }) => address);
}

async function agentUp(host: LabHost): Promise<void> {
  startAgent(host, true);
  await eventually(30_000, `the agent of ${host.name}`, async () => {
    const status = await host.status();
    expect(status).toMatchObject({ joined: true, docker: { reachable: true } });
  });
}

/** The containers of a host that started anew: their namespaces and addresses are others. */
async function meetAgain(host: LabHost): Promise<void> {
  members = await Promise.all(
    members.map(async (old) =>
      old.host === host
        ? {
            ...old,
            address: await addressOf(host, old.name, "app"),
            asking: await askingIn(host, old.name),
          }
        : old,
    ),
  );
}

describe.each(["h1", "h2"] as const)("the agent of %s", (name) => {
  let host: LabHost;
  let here: Member;
  let neighbour: Member;

  beforeAll(async () => {
    host = names.hosts.find((one) => one.name === name)!;
    here = members.find((one) => one.host === host)!;
    neighbour = await member(host, "neighbour", "app");
    await allFind(members, "neighbour", [neighbour.address]);
  });

  afterAll(async () => {
    await host.docker("rm", "-f", "neighbour");
  });

  test.each(["KILL", "TERM"] as const)(
    "ends by SIG%s: what Docker can answer goes on, the rest is back with the agent",
    async (signal) => {
      const far = members.find((one) => one.host !== host)!;
      const outside = new Looking(here.asking, "outside.test", [OUTSIDE]);
      const local = new Looking(here.asking, "neighbour", [neighbour.address]);
      const remote = new Looking(here.asking, far.name, [far.address]);
      const all = { outside, local, remote };
      await eventually(10_000, "first look-ups", async () => {
        for (const one of Object.values(all)) expect(one.since(0)).toBeGreaterThan(20);
      });
      for (const [what, one] of Object.entries(all))
        expect([what, ...one.missedSince(0)]).toEqual([what]);
      const endMs = performance.now();
      await host.stopService("agent", signal);
      const endedMs = performance.now();
      // Docker answers by itself; from its first answer on every time.
      for (const asked of ["outside.test", "neighbour"])
        await eventually(10_000, `${asked} without the agent`, async () => {
          expect((await here.asking.ask(asked, { timeoutMs: 1000 })).data).toHaveLength(1);
        });
      const alreadyMs = performance.now();
      await eventually(20_000, "look-ups without the agent", async () => {
        expect(outside.since(alreadyMs)).toBeGreaterThan(20);
      });
      const backMs = performance.now();
      await agentUp(host);
      await allFind([here], far.name, [far.address]);
      const wholeMs = performance.now();
      await eventually(20_000, "look-ups with the new agent", async () => {
        for (const one of Object.values(all)) expect(one.since(wholeMs)).toBeGreaterThan(20);
      });
      await Promise.all(Object.values(all).map((one) => one.stop()));
      const lost = (one: Looking): string =>
        `missed ${one.missedSince(endMs).length} of ${one.since(endMs)}, last ${one.missedSince(endMs).at(-1) ?? 0} ms after the signal`;
      console.info(
        `${name}, SIG${signal}, agent gone after ${Math.round(endedMs - endMs)} ms, started again after ${Math.round(backMs - endMs)}, whole after ${Math.round(wholeMs - endMs)}`,
        `outside: ${lost(outside)}; local: ${lost(local)}; remote: ${lost(remote)}`,
      );
      expect(outside.missedSince(alreadyMs)).toEqual([]);
      expect(local.missedSince(alreadyMs)).toEqual([]);
      expect(remote.missedSince(wholeMs)).toEqual([]);
    },
  );

  test("was away when a container on a bridge network began: it has nothing of ours", async () => {
    await host.docker("network", "create", "near");
    await host.stopService("agent", "KILL");
    const apart = await member(host, "apart", "near");
    await agentUp(host);
    await eventually(60_000, "agreement", () => host.agrees());
    await allFind(members, "all", everyAddress());
    expect(await hasGate(host, "apart")).toBe(false);
    expect((await apart.asking.ask("outside.test")).data).toEqual([OUTSIDE]);
    await host.docker("rm", "-f", "apart");
    await host.docker("network", "rm", "near");
  });
});

/** Endpoints that the host's agents have found to be nobody's, by what they log. */
function removals(host: LabHost): number {
  return host.log("agent").split("ended without a call from Docker").length - 1;
}

describe("the agents of h1 and h2", () => {
  // Docker waits 15 seconds for each call that a plugin does not take: for all of these at once.
  test("were away when containers went: their names go, their addresses are free, and nothing of ours stays", async () => {
    const ways = [
      { host: h1, name: "removed", away: ["rm", "-f", "removed"] },
      {
        host: h2,
        name: "disconnected",
        away: ["network", "disconnect", "-f", "app", "disconnected"],
      },
      { host: h2, name: "stopped", away: ["stop", "-t", "0", "stopped"] },
    ];
    const gone = await Promise.all(
      ways.map(async (way) => ({ ...way, ...(await member(way.host, way.name, "app")) })),
    );
    for (const { name, address } of gone) await allFind(members, name, [address]);
    const removed = [h1, h2].map(removals);
    await Promise.all([h1, h2].map((host) => host.stopService("agent", "KILL")));
    await Promise.all(gone.map(({ host, away }) => host.docker(...away)));
    await Promise.all([h1, h2].map(agentUp));
    for (const { name } of gone) await allFind(members, name, []);
    for (const host of [h1, h2]) await eventually(60_000, "agreement", () => host.agrees());
    for (const [i, host] of [h1, h2].entries())
      expect(removals(host) - removed[i]!).toBe(gone.filter((one) => one.host === host).length);
    await eventually(60_000, "nothing of ours there", async () => {
      expect(await hasGate(h2, "disconnected")).toBe(false);
    });
    for (const { host, name, address } of gone)
      await start(host, `again-${name}`, "app", "--ip", address);
    await h2.docker("start", "stopped");
    await reaches(h3, "c3", await addressOf(h2, "stopped", "app"));
    await h1.docker("rm", "-f", "again-removed");
    const onH2 = ["disconnected", "stopped", "again-disconnected", "again-stopped"];
    await h2.docker("rm", "-f", ...onH2);
  });
});

describe.each(["h1", "h2"] as const)("the engine of %s", (name) => {
  let host: LabHost;
  const kind = KIND[name];

  beforeAll(() => {
    host = names.hosts.find((one) => one.name === name)!;
  });

  test("restarts: its containers' names are gone with them, and come back with them", async () => {
    const own = members.find((one) => one.host === host)!.name;
    await host.docker("update", "--restart", "always", own);
    await host.stopEngine("TERM");
    const others = members.filter((one) => one.host !== host);
    await allFind(others, own, []);
    await host.startEngine(kind);
    await eventually(60_000, "the container", async () => {
      expect((await host.docker("inspect", "-f", "{{.State.Running}}", own)).trim()).toBe("true");
      await meetAgain(host);
    });
    await allFind(members, own, [members.find((one) => one.host === host)!.address]);
    await allFind(members, "all", everyAddress());
    await allFind(members, "outside.test", [OUTSIDE]);
    await host.docker("update", "--restart", "no", own);
  });

  test("restarts with --live-restore: names of ours are found all the time, what Docker answers afterwards", async () => {
    const own = members.find((one) => one.host === host)!;
    await host.docker("update", "--restart", "always", own.name);
    await host.stopEngine("KILL");
    await host.startEngine(kind, "--live-restore");
    await eventually(60_000, "the container", async () => {
      expect((await host.docker("inspect", "-f", "{{.State.Running}}", own.name)).trim()).toBe(
        "true",
      );
      await meetAgain(host);
    });
    await allFind(members, "all", everyAddress());
    const here = members.find((one) => one.host === host)!;
    const there = members.filter((one) => one.host !== host);
    const looks = [
      new Looking(here.asking, there[0]!.name, [there[0]!.address]),
      ...there.map((one) => new Looking(one.asking, own.name, [here.address])),
    ];
    const beganMs = performance.now();
    await host.stopEngine("KILL");
    await eventually(10_000, "look-ups without the engine", async () => {
      for (const one of looks) expect(one.since(beganMs)).toBeGreaterThan(20);
    });
    await host.startEngine(kind, "--live-restore");
    await allFind([here], "outside.test", [OUTSIDE]);
    await eventually(60_000, "agreement", () => host.agrees());
    const wholeMs = performance.now();
    await eventually(10_000, "look-ups with the new engine", async () => {
      for (const one of looks) expect(one.since(wholeMs)).toBeGreaterThan(20);
    });
    await Promise.all(looks.map((one) => one.stop()));
    for (const one of looks) expect(one.missedSince(beganMs)).toEqual([]);
    await host.stopEngine("KILL");
    await host.startEngine(kind);
    await eventually(60_000, "the container", async () => {
      await host.docker("start", own.name);
      await meetAgain(host);
    });
    await allFind(members, "all", everyAddress());
    await host.docker("update", "--restart", "no", own.name);
  });
});

describe("a host is cut off", () => {
  test("its names leave the others' answers, those of the others its own, and all come back", async () => {
    const link = (state: "up" | "down"): void => {
      execFileSync("nsenter", [`--net=${switchOf(names.lab)}`, "ip", "link", "set", "p3", state]);
    };
    const near = members.filter((one) => one.host !== h3);
    const far = members.filter((one) => one.host === h3);
    const looks = near.map(
      (one) =>
        new Looking(
          one.asking,
          "all",
          near.map(({ address }) => address),
        ),
    );
    const cutMs = performance.now();
    link("down");
    try {
      await allFind(
        near,
        "all",
        near.map(({ address }) => address),
      );
      console.info(`names of the lost host gone after ${Math.round(performance.now() - cutMs)} ms`);
      await allFind(
        far,
        "all",
        far.map(({ address }) => address),
      );
      // A name whose every holder is out is there, without an address.
      expect(await near[0]!.asking.ask("c3")).toMatchObject({ rcode: "NOERROR", data: [] });
      await Promise.all(looks.map((one) => one.stop()));
    } finally {
      link("up");
    }
    const mendedMs = performance.now();
    await allFind(members, "all", everyAddress());
    console.info(`names back after ${Math.round(performance.now() - mendedMs)} ms`);
  });

  test("an agent that is only away takes no name out of the others' answers while its host answers", async () => {
    const near = members.filter((one) => one.host !== h3);
    const looks = near.map((one) => new Looking(one.asking, "all", everyAddress()));
    const beganMs = performance.now();
    await h3.stopService("agent", "TERM");
    await agentUp(h3);
    await allFind(members, "all", everyAddress());
    await Promise.all(looks.map((one) => one.stop()));
    for (const one of looks) expect(one.missedSince(beganMs)).toEqual([]);
  });
});

describe.each(["h1", "h2"] as const)("events of %s's engine that nobody heard", (name) => {
  test("containers that came, went, were renamed, became ill: names are right everywhere in the end", async () => {
    const host = names.hosts.find((one) => one.name === name)!;
    const check = [
      "--health-cmd",
      "test ! -e /ill",
      "--health-interval",
      "1s",
      "--health-retries",
      "1",
    ];
    const goes = await member(host, "goes", "app");
    const old = await member(host, "old", "app");
    const ill = await member(host, "ill", "app", ...check);
    const paused = await member(host, "paused", "app");
    for (const one of [goes, old, ill, paused]) await allFind(members, one.name, [one.address]);

    await host.stopService("agent", "TERM");
    const line = new CuttableSocket(host.path("/run/line.sock"), host.path("/run/docker.sock"));
    await line.mend();
    host.startAgent("--docker", "/run/line.sock");
    await eventually(60_000, "agreement", () => host.agrees());
    await line.cut();
    await host.docker("rm", "-f", "goes");
    await host.docker("rename", "old", "new");
    await host.docker("exec", "ill", "/bin/touch", "/ill");
    await host.docker("pause", "paused");
    const comes = await member(host, "comes", "app", "--network-alias", "guest");
    await eventually(20_000, "a failed check", async () => {
      const status = await host.docker("inspect", "-f", "{{.State.Health.Status}}", "ill");
      expect(status).toContain("unhealthy");
    });
    await line.mend();
    await allFind(members, "goes", []);
    await allFind(members, "old", []);
    await allFind(members, "new", [old.address]);
    await allFind(members, "ill", []);
    await allFind(members, "paused", []);
    await allFind(members, "comes", [comes.address]);
    await allFind(members, "guest", [comes.address]);
    await host.docker("unpause", "paused");
    await allFind(members, "paused", [paused.address]);

    await host.stopService("agent", "TERM");
    await line.cut();
    await agentUp(host);
    await host.docker("rm", "-f", "new", "ill", "paused", "comes");
    for (const one of ["new", "ill", "paused", "comes"]) await allFind(members, one, []);
  });
});

describe("a service is renewed", () => {
  test("member after member, under requests of clients that ask anew each time: none fails", async () => {
    // On SIGTERM it goes on answering until it is told that nobody comes any more, as a program that drains.
    const drain = "until [ -e /drained ]; do sleep 0.1; done; kill $served; exit 0";
    const serve = `httpd -f -p 80 -h /bin & served=$!; trap '${drain}' TERM; wait`;
    const hosts = [h1, h2, h3];
    // In answers when it serves, not when its program begins.
    const ready = ["--health-cmd", "wget -q -O /dev/null http://127.0.0.1/echo"];
    const alias = ["--network-alias", "shop", ...ready, "--health-interval", "1s"];
    const shops = await Promise.all(
      hosts.map((host, i) =>
        running(host, `shop${i + 1}`, "app", ...alias, IMAGE, "/bin/sh", "-c", serve),
      ),
    );
    await allFind(
      members,
      "shop",
      shops.map(({ address }) => address),
    );
    const request =
      "while :; do if timeout 30 wget -q -O /dev/null http://shop/echo; then echo good; else echo BAD; fi; usleep 20000; done";
    const clients = await Promise.all(
      [h1, h2].map((host) =>
        running(host, "client", "app", ...ENDS_AT_ONCE, IMAGE, "/bin/sh", "-c", request),
      ),
    );
    const requests = ({ host }: Member): Promise<string> =>
      host.output(...host.withEngine("/usr/bin/docker", "logs", "client"));
    const count = (said: string, what: string): number => said.split(what).length - 1;
    /** Each client has made so many from beginning to end since then. */
    const more = async (wanted: number): Promise<void> => {
      for (const client of clients) {
        const before = count(await requests(client), "good");
        await eventually(60_000, `requests of ${client.host.name}`, async () =>
          expect(count(await requests(client), "good")).toBeGreaterThanOrEqual(before + wanted),
        );
      }
    };
    for (const shop of shops) {
      const restarted = shop.host.docker("restart", "-t", "600", shop.name);
      for (const { asking } of members)
        await eventually(60_000, `${shop.name} out of answers`, async () => {
          const { rcode, data } = await asking.ask("shop");
          expect(rcode).toBe("NOERROR");
          expect(data).not.toContain(shop.address);
        });
      // The one under way may still have its address; who asks from now on has not.
      await more(2);
      await shop.host.docker("exec", shop.name, "/bin/busybox", "touch", "/drained");
      await restarted;
      const address = await addressOf(shop.host, shop.name, "app");
      for (const { asking } of members)
        await eventually(60_000, `${shop.name} in answers again`, async () => {
          expect((await asking.ask("shop")).data).toContain(address);
        });
      await more(2);
    }
    for (const client of clients) {
      const said = await requests(client);
      console.info(
        `${client.host.name}: ${count(said, "good")} requests, ${count(said, "BAD")} failed`,
      );
      expect(said).not.toContain("BAD");
    }
    await Promise.all(
      [...shops, ...clients].map(({ host, name }) => host.docker("rm", "-f", name)),
    );
  });
});

describe("a container that asks without end", () => {
  test("takes no answer from the others of its host", async () => {
    const flooder = await member(h1, "flooder", "app");
    const quiet = members.find((one) => one.host === h1)!;
    await allFind([quiet], "flooder", [flooder.address]);
    const netns = await netnsOf(h1, "flooder");
    const program = join(import.meta.dirname, "../support/flooding.ts");
    const local = new Looking(quiet.asking, "flooder", [flooder.address]);
    const remote = new Looking(quiet.asking, "c3", [members[2]!.address]);
    const beganMs = performance.now();
    const asked = ["c3", "all", "outside.test", "nowhere.test"];
    const command = [`--net=${netns}`, process.execPath, program, "4000", ...asked];
    const { stdout: flood } = await promisify(execFile)("nsenter", command);
    await Promise.all([local, remote].map((one) => one.stop()));
    console.info(
      `flood ${flood.trim()}; others: ${local.missedSince(beganMs).length} and ${remote.missedSince(beganMs).length} missed of ${local.since(beganMs)}`,
    );
    expect(local.missedSince(beganMs)).toEqual([]);
    expect(remote.missedSince(beganMs)).toEqual([]);
    await allFind([flooder], "c3", [members[2]!.address]);
    await h1.docker("rm", "-f", "flooder");
  });
});

describe("a host that leaves the cluster", () => {
  test("has no table of ours in its containers, and their names are gone elsewhere", async () => {
    const others = members.filter((one) => one.host !== h3);
    await h3.docker("run", "-d", "--name", "stays", ...ENDS_AT_ONCE, ...SLEEP);
    await h3.docker("network", "connect", "app", "stays");
    await eventually(20_000, "its name", async () => {
      expect((await others[0]!.asking.ask("stays")).data).toHaveLength(1);
    });
    await h3.overlay("leave", "--force");
    await allFind(others, "stays", []);
    await allFind(
      others,
      "all",
      others.map(({ address }) => address),
    );
    for (const container of ["stays", "c3"])
      await eventually(30_000, `nothing of ours in ${container}`, async () => {
        expect(await hasGate(h3, container)).toBe(false);
      });
    await h3.docker("rm", "-f", "stays", "c3");
    await h1.overlay("node", "rm", "h3");
    const token = (await h1.overlay("token", "create")).trim();
    await h3.overlay("join", "--token", token, "198.51.100.1");
    await h3.waitForNetwork("app");
    members = [...others, await member(h3, "c3", "app", "--network-alias", "all")];
    await allFind(members, "all", everyAddress());
  });
});

test("after all of it every host agrees, and holds what it held before", async () => {
  await names.allAgree();
  await names.clean();
  for (const [i, host] of names.hosts.entries())
    await eventually(120_000, `${host.name} as it was before`, async () => {
      expect(await held(host)).toEqual(before[i]);
    });
  await names.allAgree();
});
