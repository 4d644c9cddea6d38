import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { tcpIn, udpIn } from "../support/netns-sockets.ts";
import { BIG, OUTSIDE, OUTSIDE_IPV6, SEARCHED, UpstreamDns } from "../support/upstream-dns.ts";
import { addressOf, endNetwork, netnsOf, reaches, SLEEP } from "./containers.ts";
import { type Held, held } from "./held.ts";
import { IMAGE } from "./lab.ts";
import {
  allFind,
  askingIn,
  LOOKUPS,
  type Member,
  member,
  NamesLab,
  running,
  runOnce,
  hasGate,
  TOOLS,
} from "./names-lab.ts";

/**
 * Containers find each other by name, from any host to any host, with nothing set anywhere. Engines
 * of two ages; what names do when something fails is in names-failures.system.test.ts.
 */

vi.setConfig({ testTimeout: 300_000, hookTimeout: 600_000 });

/** Of each libc on each engine; NAMES_STARTS=67 is 200 starts an engine. */
const FIRST_LOOKUPS = Number(process.env["NAMES_STARTS"] ?? 4);
/** First containers of a host on a network of their own. */
const FRESH_NETWORKS = Number(process.env["NAMES_NETWORKS"] ?? 3);

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-names-test-"));
let names: NamesLab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;
/** `db1` on h1, and so on: dual stack, with one alias of their own and one in common. */
let dbs: Member[];
let before: Held[];

beforeAll(async () => {
  names = await NamesLab.up(directory);
  [h1, h2, h3] = names.hosts;
  await names.network("app", "--ipv6", "--subnet", "fd00:71::/64");
  before = await Promise.all(names.hosts.map(held));
  const aliases = (k: number): string[] => ["--network-alias", "dbs", "--network-alias", `own${k}`];
  dbs = [];
  for (const [i, host] of names.hosts.entries()) {
    const options = [...aliases(i + 1), "--hostname", `called${i + 1}`];
    dbs.push(await member(host, `db${i + 1}`, "app", ...options));
  }
});

afterAll(() => names.down());

async function ipv6Of(host: LabHost, name: string): Promise<string> {
  const format = '{{(index .NetworkSettings.Networks "app").GlobalIPv6Address}}';
  return (await host.docker("inspect", "-f", format, name)).trim();
}

async function remove(...members: readonly Member[]): Promise<void> {
  await Promise.all(members.map(({ host, name }) => host.docker("rm", "-f", name)));
}

describe("from every host to every host", () => {
  test("name, aliases, host name, short id and <name>.<network>: A, AAAA and PTR, for two seconds", async () => {
    for (const { name, address } of dbs) await allFind(dbs, name, [address]);
    const outside = names.upstream.questions();
    for (const [i, to] of dbs.entries()) {
      const id = (await to.host.docker("inspect", "-f", "{{.Id}}", to.name)).trim().slice(0, 12);
      const k = i + 1;
      const ipv6 = await ipv6Of(to.host, to.name);
      const all = [to.name, `own${k}`, `called${k}`, id, `${to.name}.app`, `own${k}.app`];
      for (const { asking, host } of dbs) {
        const from = `${host.name} asks`;
        for (const name of all) {
          const ipv4Reply = await asking.ask(name);
          const ipv6Reply = await asking.ask(name, { type: "AAAA" });
          expect([from, name, ...ipv4Reply.data]).toEqual([from, name, to.address]);
          expect([from, name, ...ipv6Reply.data]).toEqual([from, name, ipv6]);
          expect([from, name, ...ipv4Reply.ttls, ...ipv6Reply.ttls]).toEqual([from, name, 2, 2]);
        }
        const reverse = `${to.address.split(".").toReversed().join(".")}.in-addr.arpa`;
        const pointer = await asking.ask(reverse, { type: "PTR" });
        expect([from, ...pointer.data]).toEqual([from, `${to.name}.app`]);
      }
    }
    // What is answered here is nobody's business outside.
    expect(names.upstream.questions()).toBe(outside);
  });

  test("letters of any case", async () => {
    for (const { asking } of dbs)
      for (const name of ["DB3", "dB3.aPP", "Own3", "DBS.App"])
        expect((await asking.ask(name)).data).toContain(dbs[2]?.address);
  });

  test("several holders on several hosts: all of them, each first in its turn", async () => {
    const addresses = dbs.map(({ address }) => address);
    await allFind(dbs, "dbs", addresses);
    for (const { asking } of dbs) {
      const first = new Map<string, number>();
      for (let i = 0; i < 60; i++) {
        const { data } = await asking.ask("dbs");
        expect(data.toSorted()).toEqual(addresses.toSorted());
        first.set(data[0] ?? "", (first.get(data[0] ?? "") ?? 0) + 1);
      }
      expect([...first.keys()].toSorted()).toEqual(addresses.toSorted());
    }
  });

  test("a name without IPv6 has an empty answer for it, not the answer that there is no such name", async () => {
    await names.network("four");
    const [a, b] = [await member(h1, "four1", "four"), await member(h2, "four2", "four")];
    await allFind([a, b], "four2", [b.address]);
    expect(await a.asking.ask("four2", { type: "AAAA" })).toMatchObject({
      rcode: "NOERROR",
      data: [],
    });
    await remove(a, b);
  });

  test("a network's names are for its own containers; one on two networks finds those of both", async () => {
    await names.network("other");
    const alone = await member(h2, "alone", "other");
    const far = await member(h3, "far", "other");
    await allFind([alone], "far", [far.address]);
    for (const name of ["db1", "db2", "dbs", "db2.app"])
      expect(await alone.asking.ask(name)).toMatchObject({ rcode: "NXDOMAIN", data: [] });
    const here = dbs[0]!;
    expect(await here.asking.ask("far")).toMatchObject({ rcode: "NXDOMAIN" });
    await h1.docker("network", "connect", "other", "db1");
    await allFind([here], "far", [far.address]);
    await allFind([here], "db2", [dbs[1]!.address]);
    await allFind([far], "db1", [await addressOf(h1, "db1", "other")]);
    await h1.docker("network", "disconnect", "other", "db1");
    await allFind([here], "far", []);
    await allFind([far], "db1", []);
    await remove(alone, far);
  });

  test("the services of a Compose project that runs on two hosts", async () => {
    const service = { image: IMAGE, command: "/bin/sleep 100000", stop_signal: "SIGKILL" };
    const links = ["db1:cache", "db2:own3"];
    const file = {
      version: "3.8",
      services: { shop: { ...service, networks: ["app"], external_links: links } },
      networks: { app: { external: true } },
    };
    const path = join(directory, "compose.yml");
    writeFileSync(path, JSON.stringify(file));
    const addresses: string[] = [];
    for (const host of [h2, h3]) {
      await host.compose("-f", path, "-p", "market", "up", "-d");
      const id = await host.compose("-f", path, "-p", "market", "ps", "-q", "shop");
      addresses.push(await addressOf(host, id.trim(), "app"));
      const shop = { host, name: "shop", address: "", asking: await askingIn(host, id.trim()) };
      // Of another host; and a link before the alias that somebody else has.
      await allFind([shop], "cache", [dbs[0]!.address]);
      await allFind([shop], "own3", [dbs[1]!.address]);
    }
    await allFind(dbs, "shop", addresses);
    await allFind(dbs, "own3", [dbs[2]!.address]);
    for (const host of [h2, h3]) await host.compose("-f", path, "-p", "market", "down");
    await allFind(dbs, "shop", []);
  });
});

describe("what people rely on", () => {
  test("a container finds itself while it is starting, and nobody else does", async () => {
    const check = ["--health-cmd", "false", "--health-interval", "1h"];
    const aliases = ["--network-alias", "pg", "--hostname", "pg.host"];
    const one = await member(h1, "starts", "app", ...check, ...aliases);
    const reverse = `${one.address.split(".").toReversed().join(".")}.in-addr.arpa`;
    for (const name of ["starts", "pg", "pg.host", "starts.app"])
      await allFind([one], name, [one.address]);
    expect((await one.asking.ask(reverse, { type: "PTR" })).data).toEqual(["starts.app"]);
    await eventually(20_000, "the name to be known", async () =>
      expect(await h2.overlay("names", "app")).toMatch(/starts .* starting/),
    );
    expect(await dbs[1]!.asking.ask("starts")).toMatchObject({ rcode: "NOERROR", data: [] });
    await remove(one);
  });

  test("sixty aliases are found from other hosts; one too many is said, not passed over", async () => {
    const aliases = (count: number): string[] =>
      Array.from({ length: count }, (_, k) => ["--network-alias", `many${k}`]).flat();
    const sixty = await member(h2, "sixty", "app", ...aliases(60));
    await allFind([dbs[0]!], "many59", [sixty.address]);
    await allFind([dbs[0]!], "many0", [sixty.address]);
    await remove(sixty);
    const most = await member(h2, "most", "app", ...aliases(130));
    await allFind([dbs[0]!], "many100", [most.address]);
    const said = /names of most on app .*more than the 128 names.*"many129"/;
    for (const command of ["status", "names", "events"])
      await eventually(20_000, `the word of it in ${command}`, async () =>
        expect(await (command === "status" ? h2.statusText() : h2.overlay(command))).toMatch(said),
      );
    await eventually(20_000, "the word of it in verify", () =>
      expect(h2.overlay("verify")).rejects.toMatchObject({ stdout: expect.stringMatching(said) }),
    );
    await remove(most);
  });

  test("of two networks with one name the first decides, also when its holder is ill or gone", async () => {
    for (const network of ["mine", "their"]) await names.network(network);
    const check = [
      "--health-cmd",
      "test -e /well",
      "--health-interval",
      "200ms",
      "--health-retries",
      "1",
    ];
    const alias = ["--network-alias", "pg"];
    const mine = await member(h2, "pg-mine", "mine", ...alias, ...check);
    const their = await member(h3, "pg-their", "their", ...alias);
    const client = await member(h1, "client", "mine");
    await h1.docker("network", "connect", "their", "client");
    await allFind([client], "pg-their", [their.address]);
    await eventually(20_000, "the name to be known", async () =>
      expect(await client.asking.ask("pg")).toMatchObject({ rcode: "NOERROR", data: [] }),
    );
    await h2.docker("exec", "pg-mine", "/bin/busybox", "touch", "/well");
    await allFind([client], "pg", [mine.address]);
    await remove(mine);
    await allFind([client], "pg", []);
    expect(await client.asking.ask("pg")).toMatchObject({ rcode: "NOERROR" });
    expect(await h1.overlay("names", "mine")).toMatch(/gone from mine.*: .*pg/);
    await allFind([client], "pg.their", [their.address]);
    await remove(client, their);
  });

  test("--link is for the one container, to any host, and before an alias", async () => {
    const lv = await member(h2, "lv", "app");
    const other = await member(h3, "alias", "app", "--network-alias", "pg");
    const id = (await h2.docker("inspect", "-f", "{{.Id}}", "lv")).trim();
    for (const [host, link] of [
      [h1, "lv:pg"],
      [h2, `${id}:pg`],
    ] as const) {
      const linked = await member(host, "linked", "app", "--link", link);
      await allFind([linked], "pg", [lv.address]);
      await allFind([linked], "alias", [other.address]);
      expect(await host.overlay("names", "app")).toMatch(/link on app: linked finds \w+ as pg/);
      await remove(linked);
    }
    await allFind([dbs[0]!, dbs[1]!], "pg", [other.address]);
    await remove(lv, other);
  });
});

describe("by what programs use", () => {
  test("ping and wget of busybox", async () => {
    const web = ["/bin/httpd", "-f", "-p", "80", "-h", "/bin"];
    const shown = await running(h3, "web", "app", IMAGE, ...web);
    await allFind(dbs, "web", [shown.address]);
    await reaches(h1, "db1", "web");
    // Started is not yet listening.
    const fetched = await eventually(20_000, "the server", () =>
      h2.docker("exec", "db2", "/bin/wget", "-q", "-O", "-", "http://web/echo"),
    );
    expect(fetched.length).toBeGreaterThan(1000);
    await remove(shown);
  });

  test("dig, nslookup and wget of Debian, over UDP and TCP", async () => {
    await names.importTools(h1, h2);
    const web = ["/bin/httpd", "-f", "-p", "80", "-h", "/bin"];
    const shown = await running(h3, "web", "app", IMAGE, ...web);
    for (const host of [h1, h2]) {
      const tool = await running(host, "tool", "app", TOOLS, "/bin/sleep", "100000");
      await allFind([tool], "web", [shown.address]);
      const exec = (...command: string[]): Promise<string> =>
        host.docker("exec", "tool", ...command);
      expect(await exec("dig", "+short", "web")).toBe(`${shown.address}\n`);
      expect(await exec("dig", "+tcp", "+short", "web")).toBe(`${shown.address}\n`);
      expect(await exec("dig", "+tcp", "+keepopen", "+short", "web", "db1", "outside.test")).toBe(
        `${shown.address}\n${dbs[0]?.address}\n${OUTSIDE}\n`,
      );
      expect(await exec("dig", "+short", "-x", shown.address)).toBe("web.app.\n");
      expect(await exec("nslookup", "web")).toContain(shown.address);
      const fetched = await eventually(20_000, "the server", () =>
        exec("wget", "-q", "-O", "-", "http://web/echo"),
      );
      expect(fetched.length).toBeGreaterThan(1000);
      expect(await exec("dig", "+tcp", "+short", "big.test")).toBe(`${BIG.join("\n")}\n`);
      expect(await exec("dig", "+short", "big.test")).toBe(`${BIG.join("\n")}\n`);
      await remove(tool);
    }
    await remove(shown);
  });
});

describe("the first thing that a container does", () => {
  test(
    "is a look-up, and it succeeds: every libc, every engine",
    async () => {
      const lookUp = async (host: LabHost): Promise<void> => {
        for (const [what, command] of Object.entries(LOOKUPS)) {
          const failed: string[] = [];
          for (let i = 0; i < FIRST_LOOKUPS; i++) {
            const { name, address } = dbs[i % dbs.length]!;
            const said = await saidBy(() => runOnce(host, "app", ...command, name));
            if (!said.includes(address)) failed.push(said);
          }
          expect([host.name, what, ...failed]).toEqual([host.name, what]);
        }
      };
      await Promise.all([h1, h2].map(lookUp));
    },
    FIRST_LOOKUPS * 60_000,
  );

  test("also when several start at once", async () => {
    const commands = Object.values(LOOKUPS);
    const all = [h1, h2, h3].flatMap((host) => commands.map((command) => ({ host, command })));
    const said = await Promise.all(
      all.map(({ host, command }) => saidBy(() => runOnce(host, "app", ...command, "dbs"))),
    );
    for (const text of said) for (const { address } of dbs) expect(text).toContain(address);
  });

  test(`also in a host's first container on the network, ${FRESH_NETWORKS} networks`, async () => {
    for (let i = 0; i < FRESH_NETWORKS; i++) {
      const network = `fresh${i}`;
      const command = Object.values(LOOKUPS)[i % 3]!;
      await names.network(network);
      const target = await member(h1, "target", network);
      // h1 has said it: the engine tells its agent of a start when that is over.
      await eventually(20_000, "the name", async () => {
        const rows = await h1.ask<{ names: string[] }[]>(`endpoints?network=${network}`);
        expect(rows.flatMap((row) => row.names)).toContain("target");
      });
      const said = await Promise.all(
        [h2, h3].map((host) => saidBy(() => runOnce(host, network, ...command, "target"))),
      );
      for (const text of said) expect(text).toContain(target.address);
      await remove(target);
    }
  });
});

/**
 * What a container that ends at once printed, or why it failed. An engine now and then loses what such
 * a container prints: one that ended well and said nothing is run once more.
 */
async function saidBy(run: () => Promise<string>): Promise<string> {
  try {
    return (await run()) || (await run());
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    return `failed: ${stdout}${stderr}`;
  }
}

describe("names that are not ours", () => {
  test("of the outside: UDP, TCP, too large for UDP, late, IPv6, and those that there are not", async () => {
    for (const { asking, host } of dbs) {
      const outside = names.upstream.asked("outside.test");
      expect(await asking.ask("outside.test")).toMatchObject({ rcode: "NOERROR", data: [OUTSIDE] });
      expect(names.upstream.asked("outside.test")).toBe(outside + 1);
      expect((await asking.ask("outside.test", { type: "AAAA" })).data).toEqual([OUTSIDE_IPV6]);
      expect((await asking.ask("big.test")).truncated).toBe(true);
      expect((await asking.ask("big.test", { udpBytes: 4096 })).data).toEqual(BIG);
      expect((await asking.ask("slow.test")).data).toEqual([OUTSIDE]);
      expect((await asking.ask("nowhere.test")).rcode).toBe("NXDOMAIN");
      for (const [image, command, ...options] of [
        LOOKUPS["glibc getent"],
        LOOKUPS["musl getaddrinfo"],
      ]) {
        const found = await runOnce(host, "app", image, command, ...options, "big.test");
        expect(found).toContain(BIG[0]);
      }
    }
  });

  test("of a bridge network are as Docker gives them, beside those of two networks of ours", async () => {
    await names.network("left");
    await names.network("right");
    for (const host of [h1, h2]) {
      await host.docker("network", "create", "near");
      const neighbour = await member(host, "neighbour", "near");
      const mixed = await member(host, "mixed", "near");
      const plain = await mixed.asking.ask("neighbour");
      await host.docker("network", "connect", "left", "mixed");
      await host.docker("network", "connect", "right", "mixed");
      const left = await member(h3, "left3", "left");
      const right = await member(h3, "right3", "right");
      await allFind([mixed], "left3", [left.address]);
      await allFind([mixed], "right3", [right.address]);
      await allFind([mixed], "outside.test", [OUTSIDE]);
      const beside = await mixed.asking.ask("neighbour");
      expect(beside).toMatchObject({ data: [neighbour.address], ttls: plain.ttls });
      await host.docker("network", "disconnect", "near", "mixed");
      await allFind([mixed], "neighbour", []);
      await allFind([mixed], "left3", [left.address]);
      await remove(mixed, neighbour, left, right);
      await host.docker("network", "rm", "near");
    }
  });

  test("on an --internal network names are found, and what is not there is told, not asked outside", async () => {
    await names.network("inside", "--internal");
    const [a, b, c] = [
      await member(h1, "in1", "inside"),
      await member(h2, "in2", "inside"),
      await member(h3, "in3", "inside"),
    ];
    for (const one of [a, b, c]) {
      await allFind([one], "in1", [a.address]);
      await allFind([one], "in2", [b.address]);
      const unknown = await one.asking.ask("neverknown.test", { timeoutMs: 15_000 });
      expect(["NXDOMAIN", "SERVFAIL"]).toContain(unknown.rcode);
    }
    expect(names.upstream.asked("neverknown.test")).toBe(0);
    await remove(a, b, c);
  });

  // Engines before 26 ask such a resolver from the host, whatever networks the container is on.
  test.each(ENGINE_KINDS)(
    "on an --internal network nothing is asked outside, also where the host's resolver is on 127.0.0.x: Docker %s",
    async (kind) => {
      const k = ENGINE_KINDS.indexOf(kind);
      const [host, other] = [names.hosts[k]!, names.hosts[(k + 1) % names.hosts.length]!];
      const shut = `shut${k}`;
      const resolvConf = join(host.directory, "resolv.conf");
      const usual = readFileSync(resolvConf, "utf8");
      const local = await UpstreamDns.start(host.netns, "127.0.0.53");
      writeFileSync(resolvConf, "nameserver 127.0.0.53\n");
      try {
        await names.network(shut, "--internal");
        const one = await member(host, "here", shut);
        const far = await member(other, "far", shut);
        for (const name of ["outside.test", "single"])
          expect(await one.asking.ask(name)).toMatchObject({ rcode: "NXDOMAIN" });
        expect(await one.asking.ask("outside.test", { type: "TXT" })).toMatchObject({ data: [] });
        await allFind([one], "far", [far.address]);
        await allFind([one], "here", [one.address]);
        expect(local.questions()).toBe(0);
        await host.docker("network", "connect", "app", "here");
        await allFind([one], "outside.test", [OUTSIDE]);
        expect(local.questions()).toBeGreaterThan(0);
        await host.docker("network", "disconnect", "app", "here");
        await allFind([one], "outside.test", []);
        const asked = local.questions();
        expect(await one.asking.ask("outside.test")).toMatchObject({ rcode: "NXDOMAIN" });
        // A network of Docker's own that leads out does, too.
        await host.docker("network", "connect", "bridge", "here");
        expect(local.questions()).toBe(asked);
        await allFind([one], "outside.test", [OUTSIDE]);
        await host.docker("network", "disconnect", "bridge", "here");
        await allFind([one], "outside.test", []);
        await remove(one, far);
      } finally {
        writeFileSync(resolvConf, usual);
        local.close();
      }
    },
  );
});

describe("what docker run and the container itself set", () => {
  test("--dns, --dns-search and --dns-opt ndots are kept", async () => {
    const own = "198.51.100.253";
    const second = await names.anotherUpstream(own);
    const search = ["--dns-search", "searched.test", "--dns-opt", "ndots:2"];
    for (const host of [h1, h2])
      for (const [image, ...command] of [LOOKUPS["glibc getent"], LOOKUPS["musl getaddrinfo"]]) {
        const sleep = [image, "/bin/sleep", "100000"];
        const one = await running(host, "set", "app", "--dns", own, ...search, ...sleep);
        const lookup = (name: string): Promise<string> =>
          host.docker("exec", "set", ...command, name);
        const [asked, usual] = [second.questions(), names.upstream.questions()];
        expect(await lookup("outside.test")).toContain(OUTSIDE);
        expect(await lookup("one")).toContain(SEARCHED);
        for (const name of ["db3", "db3.app"])
          expect(await lookup(name)).toContain(dbs[2]?.address);
        expect(second.questions()).toBeGreaterThan(asked);
        expect(names.upstream.questions()).toBe(usual);
        await remove(one);
      }
    second.close();
  });

  test("connected and disconnected while it runs: its names and what it finds come and go", async () => {
    await names.network("early");
    for (const host of [h1, h2]) {
      const moves = await member(host, "moves", "early");
      const still = await member(h3, "still", "early");
      await allFind([moves], "still", [still.address]);
      // Made after the container started.
      await names.network("late");
      await host.docker("network", "connect", "--alias", "mover", "late", "moves");
      const late = await member(h3, "late3", "late");
      const address = await addressOf(host, "moves", "late");
      await allFind([late], "moves", [address]);
      await allFind([late], "mover", [address]);
      await allFind([moves], "late3", [late.address]);
      await host.docker("network", "disconnect", "early", "moves");
      await allFind([moves], "still", []);
      await allFind([still], "moves", []);
      await allFind([moves], "late3", [late.address]);
      await host.docker("network", "disconnect", "late", "moves");
      await allFind([late], "moves", []);
      await eventually(30_000, "nothing of ours there", async () => {
        expect(await hasGate(host, "moves")).toBe(false);
      });
      await remove(moves, still, late);
      await endNetwork(h1, "late");
      await eventually(30_000, "the end of the network", async () => {
        for (const one of names.hosts)
          expect(await one.docker("network", "ls", "-q", "--filter", "name=late")).toBe("");
      });
    }
  });

  test("a container of Docker's default network, connected: it finds names from then on", async () => {
    for (const host of [h1, h2]) {
      await host.docker("run", "-d", "--name", "plain", "--stop-signal", "KILL", ...SLEEP);
      expect(await hasGate(host, "plain")).toBe(false);
      await host.docker("network", "connect", "app", "plain");
      const plain = { host, name: "plain", address: "", asking: await askingIn(host, "plain") };
      await allFind([plain], "db3", [dbs[2]!.address]);
      await allFind([plain], "outside.test", [OUTSIDE]);
      expect(await hasGate(host, "plain")).toBe(true);
      await host.docker("network", "disconnect", "app", "plain");
      await host.docker("rm", "-f", "plain");
    }
  });

  test("a container's own name server has port 53, and it finds names itself all the same", async () => {
    for (const host of [h1, h2]) {
      const server = await member(host, "server", "app");
      const netns = await netnsOf(host, "server");
      const udp = await udpIn(netns, "0.0.0.0", 53);
      const tcp = await tcpIn(netns, "0.0.0.0", 53);
      const heard: string[] = [];
      udp.on("message", (_, { address }) => heard.push(address));
      await reaches(h3, "db3", server.address);
      await dbs[2]!.asking.ask("anything", { server: server.address, timeoutMs: 500 });
      await eventually(10_000, "the question", async () =>
        expect(heard).toEqual([dbs[2]!.address]),
      );
      await allFind([server], "db3", [dbs[2]!.address]);
      await allFind([server], "outside.test", [OUTSIDE]);
      expect(heard).toHaveLength(1);
      udp.close();
      tcp.close();
      await remove(server);
    }
  });

  test("a container on a bridge network only has nothing of ours", async () => {
    for (const host of [h1, h2]) {
      await host.docker("network", "create", "near");
      const apart = await member(host, "apart", "near");
      expect(await hasGate(host, "apart")).toBe(false);
      expect((await apart.asking.ask("db1")).rcode).toBe("NXDOMAIN");
      expect((await apart.asking.ask("outside.test")).data).toEqual([OUTSIDE]);
      await remove(apart);
      await host.docker("network", "rm", "near");
    }
  });
});

describe("health", () => {
  const check = [
    "--health-cmd",
    "test -e /well",
    "--health-interval",
    "1s",
    "--health-retries",
    "1",
  ];
  const well = (host: LabHost, name: string): Promise<string> =>
    host.docker("exec", name, "/bin/touch", "/well");
  const ill = (host: LabHost, name: string): Promise<string> =>
    host.docker("exec", name, "/bin/rm", "/well");

  test("a member is in answers while its check passes; with none the name has no address, and is there", async () => {
    for (const host of [h1, h2]) {
      const options = ["--network-alias", "checked", ...check];
      const one = await member(host, "checked1", "app", ...options);
      const other = await member(h3, "checked3", "app", ...options);
      const empty = async (): Promise<void> => {
        for (const { asking } of dbs)
          await eventually(20_000, "a name without addresses", async () => {
            expect(await asking.ask("checked")).toMatchObject({ rcode: "NOERROR", data: [] });
          });
      };
      await empty();
      await well(host, "checked1");
      await allFind(dbs, "checked", [one.address]);
      await well(h3, "checked3");
      await allFind(dbs, "checked", [one.address, other.address]);
      await ill(host, "checked1");
      await allFind(dbs, "checked", [other.address]);
      await ill(h3, "checked3");
      await empty();
      await well(host, "checked1");
      await allFind(dbs, "checked", [one.address]);
      await remove(one, other);
      await allFind(dbs, "checked", []);
    }
    expect(names.upstream.asked("checked1")).toBe(0);
  });

  test("-o dns.unhealthy=include: they are in answers whatever their check says", async () => {
    await names.network("lenient", "-o", "dns.unhealthy=include");
    const ask = await member(h3, "asks", "lenient");
    for (const host of [h1, h2]) {
      const one = await member(host, "unchecked", "lenient", ...check);
      await allFind([ask], "unchecked", [one.address]);
      await eventually(20_000, "a failed check", async () => {
        const health = await host.docker("inspect", "-f", "{{.State.Health.Status}}", "unchecked");
        expect(health).toContain("unhealthy");
      });
      expect((await ask.asking.ask("unchecked")).data).toEqual([one.address]);
      await remove(one);
    }
    await remove(ask);
  });

  test("a paused member is in no answer until it goes on", async () => {
    for (const host of [h1, h2]) {
      const name = host === h1 ? "db1" : "db2";
      const all = dbs.map(({ address }) => address);
      const others = dbs.filter((db) => db.name !== name);
      await host.docker("pause", name);
      await allFind(
        others,
        "dbs",
        others.map(({ address }) => address),
      );
      await host.docker("unpause", name);
      await allFind(dbs, "dbs", all);
    }
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
