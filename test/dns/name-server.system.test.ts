import { closeSync, readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LinuxNameServer } from "../../agent/names/server/linux-name-server.ts";
import type { Closed } from "../../agent/names/server/port.ts";
import type { SocketKeeper } from "../../agent/names/server/socket-keeper.ts";
import { duplicate } from "../../agent/names/server/sockets.ts";
import { silentLog } from "../../shared/ports.ts";
import { DnsSandbox, hasLegacyIptables, type RulesKind } from "../support/dns-sandbox.ts";
import { holder, holders, network, on } from "../support/names.ts";
import { ServingProcess } from "../support/serving-process.ts";

/** Containers as namespaces with a stand-in for Docker's resolver; no engine. */

const WAIT = { timeout: 60_000 } as const;
/** What waits for a name still waits when the test has come to say it. */
const HELD_MS = 6000;
const OURS = "10.192.0.5";
const EXTERNAL = "192.0.2.1";
/** On an internal network of Docker's own besides. */
const CLOSED: Closed = { resolvers: false, others: ["near"] };
const NAMES = [
  network(1, "app"),
  holders(1, [
    holder(5, ["db", "postgres"]),
    holder(8, ["ill"], { out: "unhealthy" }),
    ...Array.from({ length: 100 }, (_, i) => holder(256 + i, ["many"])),
  ]),
];

let server: LinuxNameServer;
let sandboxes: DnsSandbox[];

beforeEach(async () => {
  sandboxes = [];
  server = new LinuxNameServer({ checkMs: 100, holdMs: HELD_MS }, silentLog);
  await server.start();
  server.change(NAMES);
});

afterEach(async () => {
  await server.stop("handOver");
  for (const sandbox of sandboxes) await sandbox.close();
});

function made(sandbox: DnsSandbox): DnsSandbox {
  sandboxes.push(sandbox);
  return sandbox;
}

async function open(kind?: RulesKind): Promise<DnsSandbox> {
  return made(await DnsSandbox.open(kind));
}

async function served(closed?: Closed): Promise<DnsSandbox> {
  const sandbox = await open();
  await server.serve(sandbox.sandbox([on(1)], closed));
  return sandbox;
}

const counted = async (name: string): Promise<number> => (await server.counters())[name] ?? -1;
const stateOf = async ({ id }: DnsSandbox) =>
  (await server.sandboxes()).find((status) => status.id === id);

/** Of this process: what a gate leaves behind would be among them. */
function openSockets(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:");
    } catch {
      return false;
    }
  }).length;
}

const kinds: readonly RulesKind[] = hasLegacyIptables()
  ? ["iptables-nft", "iptables-legacy", "nftables"]
  : ["iptables-nft", "nftables"];

describe.each(kinds)("beside Docker's rules made with %s", (kind) => {
  test("a name of ours is answered here, everything else by Docker's resolver", async () => {
    const sandbox = await open(kind);
    expect(await sandbox.first("db")).toBe("NXDOMAIN");
    await server.serve(sandbox.sandbox([on(1)]));
    for (const transport of ["udp", "tcp"] as const) {
      expect(await sandbox.ask("Db.aPP", { transport })).toMatchObject({
        from: "127.0.0.11:53",
        name: "Db.aPP",
        data: [OURS],
        ttl: 2,
      });
      expect(await sandbox.first("docker", { transport })).toBe("172.18.0.2");
      expect(await sandbox.first("www.test", { transport })).toBe(EXTERNAL);
      expect(await sandbox.first("nobody", { transport })).toBe("NXDOMAIN");
      expect(await sandbox.first("servfail.test", { transport })).toBe("SERVFAIL");
      expect(await sandbox.ask("ill", { transport })).toMatchObject({ rcode: "NOERROR", data: [] });
      expect(await sandbox.first("5.0.192.10.in-addr.arpa", { type: "PTR", transport })).toBe(
        "db.app",
      );
    }
    expect(await sandbox.ask("big.test")).toMatchObject({ truncated: true });
    expect((await sandbox.ask("big.test", { transport: "tcp" })).data).toHaveLength(100);
    expect(await server.counters()).toMatchObject({ gatesMade: 1, answered: 4, nodata: 2 });
  });
});

describe("questions", () => {
  test("as many records as the asker takes; all of them over TCP", async () => {
    const sandbox = await served();
    const plain = await sandbox.ask("many");
    expect(plain).toMatchObject({ truncated: true });
    expect(plain.bytes).toBeLessThanOrEqual(512);
    const edns = await sandbox.ask("many", { edns: 4096 });
    expect(edns).toMatchObject({ truncated: false, opt: { udpPayloadSize: 4096 } });
    expect(edns.data).toHaveLength(100);
    expect((await sandbox.ask("many", { transport: "tcp" })).data).toHaveLength(100);
    expect(await sandbox.ask("db", { edns: 1232, ednsVersion: 1 })).toMatchObject({
      opt: { extendedRcode: 1 },
    });
  });

  test.each([1, 7, 65535])("many over one connection, in pieces of %i bytes", async (cut) => {
    const sandbox = await served();
    const names = ["db", "www.test", "docker", "DB.app", "nobody", "big.test", "db", "a.test"];
    const said = await sandbox.pipeline(
      names.map((name) => ({ name })),
      cut,
    );
    const first = said.map((one) => (typeof one === "string" ? one : (one.data[0] ?? one.rcode)));
    expect(first).toEqual([
      OURS,
      EXTERNAL,
      "172.18.0.2",
      OURS,
      "NXDOMAIN",
      "192.0.2.1",
      OURS,
      EXTERNAL,
    ]);
    expect(await counted("tcpConnections")).toBe(1);
  });

  test("many at once from many ports, and from one", async () => {
    const sandbox = await served();
    for (const sockets of ["each", "one"] as const) {
      const load = { perSecond: 1000, forMs: 1500, sockets, retryMs: 30_000 };
      const [ours, external] = await Promise.all([
        sandbox.load({ name: "db", ...load }),
        sandbox.load({ name: "www.test", ...load, perSecond: 200 }),
      ]);
      expect(ours.said).toEqual({ [OURS]: ours.asked });
      expect(external.said).toEqual({ [EXTERNAL]: external.asked });
    }
  });

  test("a name that may come is waited for, and one that does not is forwarded", async () => {
    const sandbox = await open();
    server.change([network(2, "new", false)]);
    await server.serve(sandbox.sandbox([on(1), on(2)]));
    expect(await sandbox.first("db")).toBe(OURS);
    const late = sandbox.first("late", { timeoutMs: 20_000 });
    const never = sandbox.first("never.new", { transport: "tcp", timeoutMs: 20_000 });
    await expect.poll(() => counted("held"), WAIT).toBe(2);
    // It cannot be one of ours.
    expect(await sandbox.first("www.test")).toBe(EXTERNAL);
    server.change([holders(2, [holder(77, ["late"])])]);
    expect(await late).toBe("10.192.0.77");
    expect(await never).toBe("NXDOMAIN");
    server.change([network(2, "new", true)]);
    expect(await sandbox.first("nobody")).toBe("NXDOMAIN");
    expect(await counted("held")).toBe(2);
  });

  test("one that is complete forwards what waited for it", async () => {
    const sandbox = await open();
    server.change([network(2, "new", false)]);
    await server.serve(sandbox.sandbox([on(2)]));
    const asked = sandbox.first("docker", { timeoutMs: 20_000 });
    await expect.poll(() => counted("held"), WAIT).toBe(1);
    server.change([network(2, "new", true)]);
    expect(await asked).toBe("172.18.0.2");
  });

  test.each(["udp", "tcp"] as const)(
    "on closed networks Docker's names are Docker's, others are asked for with --dns only: %s",
    async (transport) => {
      const sandbox = await served(CLOSED);
      const ask = { transport, timeoutMs: 20_000 };
      expect(await sandbox.first("db", ask)).toBe(OURS);
      // Later than is waited for, on a slow machine, is as if not at all: then once more.
      await expect.poll(() => sandbox.first("docker", ask), WAIT).toBe("172.18.0.2");
      const before = await counted("notThere");
      for (const name of ["www.test", "silent.test", "servfail.test", "near.test", "nobody"])
        expect(await sandbox.first(name, ask)).toBe("NXDOMAIN");
      expect(await counted("notThere")).toBeGreaterThanOrEqual(before + 4);
      await server.serve(sandbox.sandbox([on(1)], { resolvers: false, others: [] }));
      expect(await sandbox.first("docker", ask)).toBe("NXDOMAIN");
      await server.serve(sandbox.sandbox([on(1)], { ...CLOSED, resolvers: true }));
      await expect.poll(() => sandbox.first("www.test", ask), WAIT).toBe(EXTERNAL);
      for (const name of ["silent.test", "servfail.test", "refused.test"])
        expect(await sandbox.first(name, ask)).toBe("NXDOMAIN");
      await expect
        .poll(async () => (await sandbox.ask("big.test", ask)).truncated, WAIT)
        .toBe(transport === "udp");
      await server.serve(sandbox.sandbox([on(1)]));
      expect(await sandbox.first("servfail.test", ask)).toBe("SERVFAIL");
    },
  );

  test("whom Docker's resolver may be asked for is waited for, and nobody while it is not known", async () => {
    const sandbox = await served({ resolvers: false, others: undefined });
    expect(await sandbox.first("db")).toBe(OURS);
    const asked = sandbox.first("www.test", { timeoutMs: 20_000 });
    await expect.poll(() => counted("held"), WAIT).toBe(1);
    await server.serve(sandbox.sandbox([on(1)]));
    expect(await asked).toBe(EXTERNAL);
    await server.serve(sandbox.sandbox([on(1)], { resolvers: false, others: undefined }));
    expect(await sandbox.first("www.test", { timeoutMs: 20_000 })).toBe("NXDOMAIN");
  });

  test("more on closed networks than can be asked: Docker is asked by the client again", async () => {
    const sandbox = await served(CLOSED);
    const load = { name: "docker", perSecond: 3000, forMs: 500, retryMs: 30_000 };
    const { said, asked } = await sandbox.load({ ...load, sockets: "each" });
    // Where all is slow, Docker may be slower than what is waited for here; nobody is left waiting.
    const { "172.18.0.2": told = 0, NXDOMAIN: denied = 0 } = said;
    expect(told).toBeGreaterThan(0);
    expect(told + denied).toBe(asked);
  });
});

describe("sandboxes", () => {
  test("a namespace that comes after Join is served when it is there", async () => {
    const sandbox = made(new DnsSandbox());
    // As Docker does: a plain file first.
    writeFileSync(sandbox.path, "");
    await server.serve(sandbox.sandbox([on(1)]));
    expect(await stateOf(sandbox)).toMatchObject({ state: "waiting" });
    sandbox.mount();
    expect(await stateOf(sandbox)).toMatchObject({ state: "waiting" });
    sandbox.up();
    await expect.poll(async () => (await stateOf(sandbox))?.state, WAIT).toBe("serving");
    await sandbox.startResolver();
    expect(await sandbox.ask("db")).toMatchObject({ from: "127.0.0.11:53", data: [OURS] });
    expect(await sandbox.first("www.test")).toBe(EXTERNAL);
  });

  test("withdrawn while it is waited for, it is not served when it comes", async () => {
    const sandbox = made(new DnsSandbox());
    await server.serve(sandbox.sandbox([on(1)]));
    await server.withdraw(sandbox.id);
    sandbox.mount();
    sandbox.up();
    await sandbox.startResolver();
    expect(await sandbox.first("db")).toBe("NXDOMAIN");
    expect(await counted("gatesMade")).toBe(0);
  });

  test.each([
    "flush ruleset",
    "delete table ip overlay_ts_dns",
    "flush chain ip overlay_ts_dns answers",
  ])("rules that the container takes away (%s) are put back", async (command) => {
    const sandbox = await served();
    sandbox.run(`nft ${command}`);
    await expect.poll(() => counted("gatesPutBack"), WAIT).toBe(1);
    expect(await sandbox.first("db")).toBe(OURS);
  });

  test("who asks need not wait for that: rules are looked at, named and put back at once", async () => {
    await server.stop("letGo");
    server = new LinuxNameServer({ checkMs: 600_000 }, silentLog);
    await server.start();
    server.change(NAMES);
    const [well, changed] = [await served(), await served()];
    changed.run("nft flush ruleset");
    expect(await server.check()).toEqual([changed.id]);
    expect(await server.check()).toEqual([]);
    for (const sandbox of [well, changed]) expect(await sandbox.first("db")).toBe(OURS);
  });

  test("old rules are replaced, not added to", async () => {
    const sandbox = await served();
    await server.stop("handOver");
    expect(sandbox.run("nft list tables ip")).toContain("overlay_ts_dns");
    server = new LinuxNameServer({}, silentLog);
    await server.start();
    server.change(NAMES);
    await server.serve(sandbox.sandbox([on(1)]));
    expect(sandbox.run("nft list table ip overlay_ts_dns").match(/tproxy/g)).toHaveLength(2);
    expect(await sandbox.first("db")).toBe(OURS);
  });

  test("withdrawn, nothing of ours stays", async () => {
    const sandbox = await open();
    expect(await sandbox.first("www.test")).toBe(EXTERNAL);
    const before = openSockets();
    await server.serve(sandbox.sandbox([on(1)]));
    expect(await sandbox.first("db", { transport: "tcp" })).toBe(OURS);
    expect(openSockets()).toBeGreaterThan(before);
    await server.withdraw(sandbox.id);
    await expect.poll(() => openSockets(), WAIT).toBe(before);
    expect(await sandbox.first("www.test")).toBe(EXTERNAL);
    await expect.poll(() => sandbox.run("nft list tables"), WAIT).not.toContain("overlay");
  });

  test("withdrawn and served again at once, it keeps its rules", async () => {
    const [sandbox, other] = [await open(), await open()];
    for (const one of [sandbox, other]) await server.serve(one.sandbox([on(1)]));
    await server.withdraw(sandbox.id);
    await server.serve(sandbox.sandbox([on(1)]));
    // What goes after it is gone: it would be gone as well.
    await server.withdraw(other.id);
    await expect.poll(() => other.run("nft list tables"), WAIT).not.toContain("overlay");
    expect(sandbox.run("nft list tables")).toContain("overlay");
    expect(await sandbox.first("db")).toBe(OURS);
  });

  test("what was withdrawn a moment before the end is taken away too", async () => {
    const sandbox = await open();
    await server.serve(sandbox.sandbox([on(1)]));
    await server.withdraw(sandbox.id);
    await server.stop("letGo");
    expect(sandbox.run("nft list tables")).not.toContain("overlay");
  });

  test("one that is gone is let go", async () => {
    const sandbox = await open();
    const before = openSockets();
    await server.serve(sandbox.sandbox([on(1)]));
    sandbox.unmount();
    await expect.poll(() => counted("sandboxesGone"), WAIT).toBe(1);
    await expect.poll(() => openSockets(), WAIT).toBe(before);
    expect(await stateOf(sandbox)).toMatchObject({ state: "failed" });
    await server.withdraw(sandbox.id);
    expect(await server.sandboxes()).toEqual([]);
  });

  test("another namespace at the same path is another sandbox", async () => {
    const sandbox = await served();
    sandbox.unmount();
    sandbox.mount();
    sandbox.up();
    await expect.poll(() => counted("sandboxesGone"), WAIT).toBe(1);
    await server.serve(sandbox.sandbox([on(1)]));
    expect(sandbox.run("nft list tables ip")).toContain("overlay_ts_dns");
  });

  test("a container's own server on port 53 is its own", async () => {
    const sandbox = await served();
    const own = sandbox.program("resolver", "0.0.0.0", "53");
    expect(await new Promise((resolve) => own.once("message", resolve))).toEqual({
      udp: 53,
      tcp: 53,
    });
    for (const transport of ["udp", "tcp"] as const) {
      expect(await sandbox.first("db", { transport })).toBe(OURS);
      expect(await sandbox.first("docker", { transport })).toBe("172.18.0.2");
    }
  });

  test("connections of one container are bounded", async () => {
    const [loud, quiet] = [await served(), await served()];
    expect(await loud.connections(200)).toBeLessThanOrEqual(64);
    expect(await counted("droppedTcpConnections")).toBeGreaterThan(0);
    expect(await quiet.first("db", { transport: "tcp" })).toBe(OURS);
  });

  test("one that floods is dropped from, the others are answered", async () => {
    const [loud, quiet] = [await served(), await served()];
    const flood = loud.flood("www.test", 40_000);
    const load = { perSecond: 100, forMs: 1500, sockets: "each", retryMs: 30_000 } as const;
    const [ours, external] = await Promise.all([
      quiet.load({ name: "db", ...load }),
      quiet.load({ name: "www.test", ...load }),
    ]);
    await flood;
    expect(ours.said).toEqual({ [OURS]: ours.asked });
    expect(external.said).toEqual({ [EXTERNAL]: external.asked });
    const { droppedFlood = 0, kernelDrops = 0 } = await server.counters();
    expect(droppedFlood + kernelDrops).toBeGreaterThan(0);
    // Once its own questions are worked off.
    await expect.poll(() => loud.first("db", { timeoutMs: 1000 }), WAIT).toBe(OURS);
  });
});

describe("when nobody answers here", () => {
  /** As libc asks: again after a while. */
  const load = { perSecond: 20, forMs: 2500, sockets: "each", retryMs: 1000, tries: 4 } as const;

  test("killed: no name outside fails, and ours are Docker's to deny", async () => {
    const sandbox = await open();
    const alone = await ServingProcess.start({
      changes: NAMES,
      sandboxes: [sandbox.sandbox([on(1)])],
    });
    const external = sandbox.load({ name: "www.test", ...load });
    const kept = sandbox.load({ name: "www.test", ...load, sockets: "one" });
    const ours = sandbox.load({ name: "db", ...load });
    // Who asks is told one after the other: with this answer the load has begun, and most of its time is left then.
    expect(await sandbox.first("db")).toBe(OURS);
    const untilMs = performance.now() + load.forMs / 5;
    while (performance.now() < untilMs) expect(await sandbox.first("db")).toBe(OURS);
    await alone.kill();
    for (const { said, asked, longestGapMs, slowestMs } of [await external, await kept]) {
      expect(said).toEqual({ [EXTERNAL]: asked });
      process.stderr.write(
        `killed: longest gap ${longestGapMs.toFixed(0)} ms, slowest ${slowestMs.toFixed(0)} ms\n`,
      );
    }
    expect(Object.keys((await ours).said).toSorted()).toEqual([OURS, "NXDOMAIN"].toSorted());
    expect(await sandbox.first("www.test", { transport: "tcp" })).toBe(EXTERNAL);
  });

  test("stopped: nothing is lost, without asking twice", async () => {
    const sandbox = await served();
    const busy = { perSecond: 500, forMs: 1500, retryMs: 30_000 } as const;
    const all = (["each", "one"] as const).map((sockets) =>
      sandbox.load({ name: "www.test", ...busy, sockets }),
    );
    await expect.poll(() => counted("forwarded"), WAIT).toBeGreaterThan(100);
    await server.stop("handOver");
    for (const { said, asked } of await Promise.all(all))
      expect(said).toEqual({ [EXTERNAL]: asked });
    expect(await sandbox.first("db")).toBe("NXDOMAIN");
  });

  test("hung: Docker's resolver answers meanwhile, and nothing is lost", async () => {
    const sandbox = await served();
    const busy = { perSecond: 200, forMs: 3000, sockets: "each", retryMs: 30_000 } as const;
    const external = sandbox.load({ name: "www.test", ...busy });
    await expect.poll(() => counted("forwarded"), WAIT).toBeGreaterThan(10);
    // Shorter than after which its thread is ended.
    server.hang(7000);
    await expect.poll(() => counted("watchdogLetGo"), WAIT).toBe(1);
    expect(server.owesSinceMs()).toBeGreaterThan(0);
    expect(await stateOf(sandbox)).toMatchObject({ state: "failed" });
    expect(await sandbox.first("db")).toBe("NXDOMAIN");
    await expect.poll(() => sandbox.first("db"), WAIT).toBe(OURS);
    expect(server.owesSinceMs()).toBeUndefined();
    const { said, asked } = await external;
    expect(said).toEqual({ [EXTERNAL]: asked });
    expect(await stateOf(sandbox)).toMatchObject({ state: "serving" });
  });

  test("hung for good: its thread is ended, and another one serves", async () => {
    const sandbox = await served();
    server.hang(3_600_000);
    await expect.poll(() => counted("workersEnded"), WAIT).toBe(1);
    await expect.poll(() => sandbox.first("db"), WAIT).toBe(OURS);
  });

  test("a thread that dies is made anew with the sockets there are", async () => {
    const [sandbox, waiting] = [await open(), made(new DnsSandbox())];
    expect(await sandbox.first("www.test")).toBe(EXTERNAL);
    const before = openSockets();
    await server.serve(sandbox.sandbox([on(1)]));
    await server.serve(waiting.sandbox([on(1)]));
    const rules = sandbox.run("nft list table ip overlay_ts_dns");
    const external = sandbox.load({ name: "www.test", ...load });
    for (let crashes = 1; crashes <= 3; crashes++) {
      await server.crash();
      await expect.poll(() => counted("gatesAdopted"), WAIT).toBe(crashes);
      await expect.poll(() => sandbox.first("db"), WAIT).toBe(OURS);
    }
    const { said, asked } = await external;
    expect(said).toEqual({ [EXTERNAL]: asked });
    expect(sandbox.run("nft list table ip overlay_ts_dns")).toBe(rules);
    waiting.mount();
    waiting.up();
    await expect.poll(async () => (await stateOf(waiting))?.state, WAIT).toBe("serving");
    expect(await counted("gatesMade")).toBe(2);
    for (const { id } of [sandbox, waiting]) await server.withdraw(id);
    await expect.poll(() => openSockets(), WAIT).toBe(before);
  });
});

describe("sockets that are kept", () => {
  /** As a manager: has descriptors of its own. */
  class Keeper implements SocketKeeper {
    readonly keeps = true;
    readonly kept = new Map<string, number>();
    keep(name: string, fd: number): void {
      expect(this.kept.has(name)).toBe(false);
      this.kept.set(name, duplicate(fd));
    }
    release(name: string): void {
      const fd = this.kept.get(name);
      if (fd !== undefined) closeSync(fd);
      this.kept.delete(name);
    }
  }
  let keeper: Keeper;

  beforeEach(async () => {
    keeper = new Keeper();
    await server.stop("handOver");
    server = new LinuxNameServer({ keeper }, silentLog);
    await server.start();
    server.change(NAMES);
  });

  afterEach(() => {
    for (const name of keeper.kept.keys()) keeper.release(name);
  });

  test("collect questions that the next process answers", async () => {
    const sandbox = await served();
    expect([...keeper.kept.keys()]).toEqual([`${sandbox.id}-u`, `${sandbox.id}-t`]);
    await server.stop("handOver");
    const load = { perSecond: 50, forMs: 1000, sockets: "each", retryMs: 20_000 } as const;
    const meanwhile = [
      sandbox.load({ name: "db", ...load }),
      sandbox.load({ name: "www.test", ...load }),
    ];
    const overTcp = sandbox.first("db", { transport: "tcp", timeoutMs: 20_000 });
    const what = { changes: NAMES, sandboxes: [sandbox.sandbox([on(1)])] };
    const next = await ServingProcess.start(what, keeper.kept);
    try {
      expect(next.counters).toMatchObject({ gatesAdopted: 1, gatesMade: 0, gatesPutBack: 0 });
      const [ours, external] = await Promise.all(meanwhile);
      expect(ours?.said).toEqual({ [OURS]: ours?.asked });
      expect(external?.said).toEqual({ [EXTERNAL]: external?.asked });
      expect(await overTcp).toBe(OURS);
    } finally {
      await next.kill();
    }
  });

  test("are released with their sandbox", async () => {
    const sandbox = await served();
    await server.withdraw(sandbox.id);
    expect([...keeper.kept.keys()]).toEqual([]);
    expect(await sandbox.first("db")).toBe("NXDOMAIN");
  });

  test("are given up when nobody asks for them, or half of them is missing", async () => {
    const [asked, forgotten, half] = [await served(), await served(), await served()];
    await server.stop("handOver");
    closeSync(keeper.kept.get(`${half.id}-t`)!);
    keeper.kept.delete(`${half.id}-t`);
    const adopted = new Map([...keeper.kept].map(([name, fd]) => [name, duplicate(fd)]));
    server = new LinuxNameServer({ keeper, adopted, adoptedMs: 500 }, silentLog);
    server.change(NAMES);
    await Promise.all([server.start(), server.serve(asked.sandbox([on(1)]))]);
    await expect.poll(async () => (await stateOf(asked))?.state, WAIT).toBe("serving");
    await expect.poll(() => counted("adoptedReleased"), WAIT).toBe(2);
    expect([...keeper.kept.keys()]).toEqual([`${asked.id}-u`, `${asked.id}-t`]);
    expect(await asked.first("db")).toBe(OURS);
    expect(await forgotten.first("www.test")).toBe(EXTERNAL);
    expect(await half.first("www.test")).toBe(EXTERNAL);
  });

  test("of another namespace are not taken for this one's", async () => {
    const [one, other] = [await served(), await served()];
    await server.stop("handOver");
    const adopted = new Map([
      [`${one.id}-u`, duplicate(keeper.kept.get(`${other.id}-u`)!)],
      [`${one.id}-t`, duplicate(keeper.kept.get(`${other.id}-t`)!)],
    ]);
    for (const name of keeper.kept.keys()) keeper.release(name);
    server = new LinuxNameServer({ keeper, adopted }, silentLog);
    await server.start();
    server.change(NAMES);
    await server.serve(one.sandbox([on(1)]));
    expect(await server.counters()).toMatchObject({ gatesAdopted: 0, gatesMade: 1 });
    expect(await one.first("db")).toBe(OURS);
    expect(await other.first("db")).toBe("NXDOMAIN");
  });
});
