import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type ErrorCode, OverlayError } from "../../../shared/errors.ts";
import { NetworkId } from "../../../shared/ids.ts";
import type { FakeOptions } from "../../support/fake-engine.ts";
import { NamedHost } from "../../support/named-host.ts";
import { PATIENT } from "../../support/patient.ts";

const APP: FakeOptions = { networks: { app: [] } };
const CHECKED: FakeOptions = { ...APP, checked: true };

describe.each(["20.10", "26.1"] as const)("with engine %s", (kind) => {
  let host: NamedHost;

  beforeEach(() => {
    host = new NamedHost(kind);
  });

  afterEach(() => host.containerWatcher.stop());

  /** What is said in the end, and that no list is needed for it, and none changes it. */
  async function expectSaid(said: Record<string, string>): Promise<void> {
    await host.quiet();
    expect(host.said()).toEqual(said);
    const { changes } = host;
    await host.list();
    await host.quiet();
    expect({ said: host.said(), more: host.changes - changes }).toEqual({ said, more: 0 });
  }

  const namesOf = (name: string): readonly string[] | undefined =>
    [...host.own.values()].find(({ names }) => names?.[0] === name)?.names;

  test("a container has its name, short id, host name and aliases, before it runs", async () => {
    const options = { networks: { app: ["Www", "c1", "web."] }, hostname: "My.Host" };
    const id = host.engine.create("c1", options);
    await host.quiet();
    host.engine.beginStart(id);
    await host.quiet();
    expect(host.said()).toEqual({ c1: "in" });
    expect(namesOf("c1")).toEqual(["c1", id.slice(0, 12), "my.host", "www", "web"]);
    host.engine.endStart(id);
    await expectSaid({ c1: "in" });
    expect(host.changes).toBe(1);
  });

  test("one whose creation was not seen has them when it runs, with its health", async () => {
    host.hold = true;
    const id = host.engine.create("c1", CHECKED);
    host.held.length = 0;
    host.engine.beginStart(id);
    host.deliver();
    await host.quiet();
    expect(host.said()).toEqual({});
    host.engine.endStart(id);
    host.deliver();
    await expectSaid({ c1: "starting" });
    expect(host.changes).toBe(1);
  });

  test("a look shows in which sandbox its endpoint is, also to an agent that saw no Join", async () => {
    const id = host.engine.run("c1", { networks: { app: [] } });
    await host.quiet();
    host.found.clear();
    host.restart();
    await host.list();
    await host.quiet();
    expect([...host.found.values()]).toEqual([`/var/run/docker/netns/${id.slice(0, 12)}`]);
  });

  test("aliases are those of each network", async () => {
    const id = host.engine.run("c1", { networks: { app: ["a"], db: ["b"], bridge: [] } });
    await host.quiet();
    expect([...host.own.values()].map(({ names }) => names)).toEqual([
      ["c1", id.slice(0, 12), "a"],
      ["c1", id.slice(0, 12), "b"],
    ]);
  });

  test("the network may have been named by a part of its id", async () => {
    const id = host.engine.create("c1", {
      networks: { [host.engine.network("app").slice(0, 12)]: ["a"] },
    });
    await host.quiet();
    host.engine.beginStart(id);
    await host.quiet();
    expect(namesOf("c1")).toContain("a");
    host.engine.endStart(id);
    await expectSaid({ c1: "in" });
  });

  test("health: out from the start on, in while healthy", async () => {
    const id = host.engine.create("c1", CHECKED);
    await host.quiet();
    host.engine.beginStart(id);
    await host.quiet();
    expect(host.said()).toEqual({ c1: "starting" });
    host.engine.endStart(id);
    await expectSaid({ c1: "starting" });
    host.engine.check(id, "healthy");
    await expectSaid({ c1: "in" });
    host.engine.check(id, "unhealthy");
    await expectSaid({ c1: "unhealthy" });
    host.engine.check(id, "healthy");
    await expectSaid({ c1: "in" });
    expect(host.changes).toBe(4);
  });

  test("paused: out; afterwards as its health check says", async () => {
    const plain = host.engine.run("plain", APP);
    const checked = host.engine.run("checked", CHECKED);
    host.engine.check(checked, "healthy");
    await expectSaid({ plain: "in", checked: "in" });
    for (const id of [plain, checked]) host.engine.pause(id);
    await expectSaid({ plain: "paused", checked: "paused" });
    for (const id of [plain, checked]) host.engine.unpause(id);
    await expectSaid({ plain: "in", checked: "unhealthy" });
    host.engine.check(checked, "healthy");
    await expectSaid({ plain: "in", checked: "in" });
  });

  test.each([
    [undefined, 15, "stopping"],
    [undefined, 1, "in"],
    [undefined, 9, "stopping"],
    [10, 10, "stopping"],
    [10, 15, "in"],
  ])("stop signal %j, sent %j: %s", async (stopSignal, sent, said) => {
    const options = stopSignal === undefined ? APP : { ...APP, stopSignal };
    const id = host.engine.run("c1", options);
    await host.quiet();
    host.engine.kill(id, sent);
    await expectSaid({ c1: said });
  });

  test("one that was told to stop is out until it lives anew: nobody tells how long it was given", async () => {
    vi.useFakeTimers();
    try {
      host = new NamedHost(kind);
      const id = host.engine.run("c1", CHECKED);
      await vi.advanceTimersByTimeAsync(100);
      host.engine.check(id, "healthy");
      host.engine.kill(id, 15);
      await vi.advanceTimersByTimeAsync(600_000);
      expect(host.said()).toEqual({ c1: "stopping" });
      host.engine.check(id, "unhealthy");
      host.engine.check(id, "healthy");
      await vi.advanceTimersByTimeAsync(100);
      expect(host.said()).toEqual({ c1: "stopping" });
      host.engine.end(id);
      host.engine.start(id);
      host.engine.check(id, "healthy");
      await vi.advanceTimersByTimeAsync(100);
      expect(host.said()).toEqual({ c1: "in" });
    } finally {
      vi.useRealTimers();
    }
  });

  test("an agent that starts meanwhile keeps it out, and knows its next life from this one", async () => {
    const id = host.engine.run("c1", { networks: { app: [], db: [] } });
    await host.quiet();
    host.engine.kill(id, 15);
    await expectSaid({ c1: "stopping" });
    host.restart();
    await host.list();
    await host.quiet();
    expect([...host.own.values()].map(({ out }) => out)).toEqual(["stopping", "stopping"]);
    host.engine.end(id);
    host.engine.start(id);
    await expectSaid({ c1: "in" });
    host.engine.kill(id, 15);
    await host.quiet();
    host.containerWatcher.stop();
    host.engine.end(id);
    host.engine.start(id);
    host.restart();
    await host.list();
    await expectSaid({ c1: "in" });
  });

  test("a stop that nobody heard is asked for when events are heard again; of this life only", async () => {
    host.hold = true;
    const [a, b, c] = ["a", "b", "c"].map((name) => host.engine.run(name, APP));
    host.deliver();
    await host.quiet();
    host.engine.kill(a!, 15);
    host.engine.kill(b!, 15);
    host.engine.pause(b!);
    host.engine.unpause(b!);
    host.engine.kill(c!, 15);
    host.engine.end(c!);
    host.engine.start(c!);
    host.held.length = 0;
    host.containerWatcher.happened({ kind: "listening" });
    await host.list();
    await host.quiet();
    expect(host.said()).toEqual({ a: "stopping", b: "in", c: "in" });
    host.restart();
    host.engine.kill(c!, 15);
    host.held.length = 0;
    host.containerWatcher.happened({ kind: "listening" });
    await host.list();
    await host.quiet();
    expect(host.said()).toEqual({ a: "stopping", b: "in", c: "stopping" });
  });

  test("a stop that is told before the container is known to be ours counts when it is looked at", async () => {
    const id = host.engine.run("c1", APP);
    await expectSaid({ c1: "in" });
    host.restart();
    host.containerWatcher.happened({ kind: "listening" });
    // The engine's answer to what it remembers is on its way, the list not made yet.
    host.engine.kill(id, 15);
    await host.quiet();
    await host.list();
    await host.quiet();
    expect(host.said()).toEqual({ c1: "stopping" });
    host.engine.end(id);
    host.engine.start(id);
    await expectSaid({ c1: "in" });
  });

  test("whoever pauses it and has it go on did not mean it to end; a stop goes on after a pause before it", async () => {
    const id = host.engine.run("c1", APP);
    await host.quiet();
    host.engine.kill(id, 15);
    host.engine.pause(id);
    await expectSaid({ c1: "paused" });
    host.engine.unpause(id);
    await expectSaid({ c1: "in" });
    // As Docker stops one that is paused.
    host.engine.pause(id);
    host.engine.kill(id, 15);
    host.engine.unpause(id);
    await expectSaid({ c1: "stopping" });
  });

  test("what a container alone sees: its links on each network, before it runs", async () => {
    const id = host.engine.create("c1", { ...APP, links: ["lv:DB"], resolvers: true });
    await host.quiet();
    host.engine.beginStart(id);
    await host.quiet();
    expect([...host.inside.values()]).toEqual([
      { links: { db: "lv" }, outside: { wayOut: false, resolvers: true, others: [] } },
    ]);
    host.engine.endStart(id);
    await expectSaid({ c1: "in" });
  });

  test("ports that are published on networks without a way out alone are named, while it runs there", async () => {
    const [app, db] = ["0", "1"].map((digit) => NetworkId.parse(digit.repeat(32))) as [
      NetworkId,
      NetworkId,
    ];
    const web = { published: ["80/tcp"] };
    const id = host.engine.run("web", { networks: { app: [], db: [] }, ...web });
    host.engine.run("quiet", APP);
    await host.quiet();
    const named = () => host.containerWatcher.unpublished();
    expect(named()).toEqual([]);
    host.closed.add(app);
    expect(named()).toEqual([]);
    host.closed.add(db);
    expect(named()).toEqual([{ name: "web", published: ["80/tcp"] }]);
    // One that leads out is enough.
    host.engine.connect(id, "bridge");
    await host.quiet();
    expect(named()).toEqual([]);
    host.engine.disconnect(id, "bridge");
    await host.quiet();
    expect(named()).toHaveLength(1);
    host.engine.end(id);
    await host.quiet();
    expect(named()).toEqual([]);
  });

  test("a virtual address is asked for by label, under a name that it then has, while it runs", async () => {
    const labels = { vip: "Shop", sticky: "true" };
    let told = 0;
    host.containerWatcher.told.on(() => told++);
    const id = host.engine.run("web", { ...APP, labels, ports: ["80/tcp"] });
    await host.quiet();
    const network = NetworkId.parse("0".repeat(32));
    const wish = { network, name: "shop", sticky: true, madeBy: "label" };
    expect(host.containerWatcher.vipWishes()).toEqual([wish]);
    expect(told).toBeGreaterThan(0);
    expect(namesOf("web")).toContain("shop");
    expect([...host.own.values()].map(({ ports }) => ports)).toEqual([["80/tcp"]]);
    await expectSaid({ web: "in" });
    host.engine.end(id);
    await host.quiet();
    expect(host.containerWatcher.vipWishes()).toEqual([]);
  });

  test("a network with `-o vip=true` asks for each service of it", async () => {
    host.options = { vip: "true" };
    host.engine.run("c1", { networks: { app: ["api"] }, labels: { service: "web" } });
    host.engine.run("c2", { networks: { app: ["db"] }, labels: { vip: "false" } });
    host.engine.run("c3", { networks: { app: ["db"] } });
    await host.quiet();
    const names = host.containerWatcher.vipWishes().map(({ name, madeBy }) => `${name} ${madeBy}`);
    expect(names.toSorted()).toEqual(["db network", "web network"]);
  });

  test("which of Docker's own networks it is on, and whether one leads out, as they come and go", async () => {
    host.engine.internal.add("near");
    const id = host.engine.run("c1", { networks: { app: [], near: [] } });
    await host.quiet();
    const outside = () => [...host.inside.values()][0]?.outside;
    expect(outside()).toEqual({ wayOut: false, resolvers: false, others: ["near"] });
    host.engine.connect(id, "bridge");
    await host.quiet();
    expect(outside()).toEqual({ wayOut: true, resolvers: false, others: ["near", "bridge"] });
    host.engine.disconnect(id, "bridge");
    await host.quiet();
    expect(outside()).toEqual({ wayOut: false, resolvers: false, others: ["near"] });
    // Also when nobody told.
    host.hold = true;
    host.engine.connect(id, "bridge");
    host.held.length = 0;
    await host.list();
    await host.quiet();
    expect(outside()).toMatchObject({ wayOut: true });
  });

  test("an end takes the names before Docker takes the endpoint", async () => {
    const id = host.engine.run("c1", APP);
    await expectSaid({ c1: "in" });
    const [endpoint] = [...host.own.keys()];
    host.containerWatcher.left(endpoint!);
    await expectSaid({});
    expect(host.own.size).toBe(1);
    host.containerWatcher.joined(endpoint!);
    await expectSaid({ c1: "in" });
    host.engine.end(id);
    await expectSaid({});
    expect(host.own.size).toBe(0);
  });

  test("a restart is another life: it was not told to stop, and is not healthy yet", async () => {
    const id = host.engine.run("c1", CHECKED);
    host.engine.check(id, "healthy");
    host.engine.kill(id, 15);
    await expectSaid({ c1: "stopping" });
    host.engine.end(id);
    host.engine.start(id);
    await expectSaid({ c1: "starting" });
  });

  test("the word of the last end may come late", async () => {
    const id = host.engine.run("c1", APP);
    await host.quiet();
    host.engine.end(id);
    host.engine.beginStart(id);
    await host.quiet();
    host.containerWatcher.happened({
      kind: "container",
      action: "die",
      container: id,
      attributes: {},
      atMs: 0,
    });
    await host.quiet();
    expect(host.said()).toEqual({ c1: "in" });
    host.engine.endStart(id);
    await expectSaid({ c1: "in" });
  });

  test("rename", async () => {
    const id = host.engine.run("c1", APP);
    await host.quiet();
    host.engine.rename(id, "c2");
    await expectSaid({ c2: "in" });
  });

  test("connected while running, with aliases, and disconnected", async () => {
    const id = host.engine.run("c1", { networks: { bridge: [] } });
    await expectSaid({});
    host.engine.connect(id, "app", ["www"]);
    await expectSaid({ c1: "in" });
    expect(namesOf("c1")).toContain("www");
    host.engine.disconnect(id, "app");
    await expectSaid({});
    host.engine.connect(id, "app", ["other"]);
    await expectSaid({ c1: "in" });
    expect(namesOf("c1")).toContain("other");
    expect(namesOf("c1")).not.toContain("www");
  });

  test("connected otherwise while it was down, of which no event tells", async () => {
    const id = host.engine.run("c1", { networks: { app: ["one"] } });
    await host.quiet();
    host.engine.end(id);
    host.engine.disconnect(id, "app");
    host.engine.connect(id, "app", ["two"]);
    host.engine.start(id);
    await expectSaid({ c1: "in" });
    expect(namesOf("c1")).toContain("two");
    expect(namesOf("c1")).not.toContain("one");
  });

  test("a start that fails leaves nothing", async () => {
    const id = host.engine.create("c1", APP);
    host.engine.beginStart(id);
    host.engine.failStart(id);
    await expectSaid({});
    host.engine.start(id);
    await expectSaid({ c1: "in" });
  });

  test("many at once are few changes", async () => {
    for (let k = 0; k < 100; k++) host.engine.run(`c${k}`, APP);
    await host.quiet();
    expect(Object.keys(host.said())).toHaveLength(100);
    expect(host.changes).toBeLessThan(10);
  });

  test("the host's own interface is left alone", async () => {
    host.engine.run("c1", APP);
    const [[id, said]] = [...host.own] as [[never, never]];
    host.own.set(id, { ...(said as object), role: "host" } as never);
    await expectSaid({});
  });

  describe("what no event told, the list does:", () => {
    beforeEach(() => {
      host.hold = true;
    });

    /** Events are lost, and then others are heard again. */
    async function listed(): Promise<void> {
      host.held.length = 0;
      host.containerWatcher.happened({ kind: "listening" });
      await host.list();
      await host.quiet();
    }

    test("starts, health, pauses, names, connections, ends", async () => {
      const [a, b, c, d] = ["a", "b", "c", "d"].map((name) => host.engine.run(name, CHECKED));
      host.engine.check(a!, "healthy");
      await listed();
      expect(host.said()).toEqual({ a: "in", b: "starting", c: "starting", d: "starting" });
      host.engine.pause(a!);
      host.engine.rename(b!, "bb");
      host.engine.disconnect(c!, "app");
      host.engine.connect(c!, "app", ["www"]);
      host.engine.check(c!, "healthy");
      host.engine.remove(d!);
      await listed();
      expect(host.said()).toEqual({ a: "paused", bb: "starting", c: "in" });
      expect(namesOf("c")).toContain("www");
      host.engine.unpause(a!);
      host.engine.end(b!);
      host.engine.start(b!);
      host.engine.check(b!, "healthy");
      await listed();
      expect(host.said()).toEqual({ a: "unhealthy", bb: "in", c: "in" });
    });

    test("an engine that ended with its containers", async () => {
      const id = host.engine.run("c1", APP);
      const starting = host.engine.create("c2", APP);
      host.deliver();
      await host.quiet();
      host.engine.beginStart(starting);
      host.deliver();
      await host.quiet();
      expect(host.said()).toEqual({ c1: "in", c2: "in" });
      host.engine.crash();
      await listed();
      expect(host.said()).toEqual({});
      expect(host.own.size).toBe(2);
      host.engine.start(id);
      await listed();
      expect(host.said()).toEqual({ c1: "in" });
    });

    test("an engine that did not know its containers for a moment", async () => {
      host.engine.run("c1", APP);
      await listed();
      host.engine.restoring = true;
      await listed();
      expect(host.said()).toEqual({});
      host.engine.restoring = false;
      await listed();
      expect(host.said()).toEqual({ c1: "in" });
    });

    test("another agent, which has the documents of the one before", async () => {
      const ids = ["a", "b", "c", "d"].map((name) => host.engine.run(name, APP));
      await listed();
      host.containerWatcher.stop();
      host.engine.pause(ids[0]!);
      host.engine.rename(ids[1]!, "bb");
      // Docker gave it up while nobody listened.
      const lost = [...host.own].find(([, { names }]) => names?.[0] === "c")!;
      host.engine.remove(ids[2]!);
      host.own.set(...lost);
      host.restart();
      const { changes } = host;
      await listed();
      expect(host.said()).toEqual({ a: "paused", bb: "in", d: "in" });
      expect(host.changes - changes).toBeLessThan(5);
    });

    test("names that our own documents have lost", async () => {
      host.engine.run("c1", APP);
      await listed();
      for (const [id, { names: _, ...rest }] of host.own) host.own.set(id, rest);
      await listed();
      expect(host.said()).toEqual({ c1: "in" });
    });

    test("nothing new is nothing said", async () => {
      for (const name of ["a", "b"]) host.engine.run(name, CHECKED);
      await listed();
      const { asked, changes } = host;
      for (let k = 0; k < 5; k++) await listed();
      expect(host).toMatchObject({ asked, changes });
    });
  });

  test("an answer that an event overtook says nothing", async () => {
    const id = host.engine.run("c1", APP);
    host.engine.pause(id);
    await expectSaid({ c1: "paused" });
    const gates: (() => void)[] = [];
    host.ask = async (question) => {
      const answer = await question();
      await new Promise<void>((resolve) => gates.push(resolve));
      return answer;
    };
    host.engine.unpause(id);
    await vi.waitFor(() => expect(host.said()).toEqual({ c1: "in" }), PATIENT);
    host.engine.pause(id);
    await vi.waitFor(() => expect(host.said()).toEqual({ c1: "paused" }), PATIENT);
    const { changes } = host;
    gates[0]?.();
    // Asked again: had the first answer counted, it would have been said by then.
    await vi.waitFor(() => expect(gates).toHaveLength(2), PATIENT);
    await delay(50);
    expect({ said: host.said(), changes: host.changes }).toEqual({
      said: { c1: "paused" },
      changes,
    });
    gates[1]?.();
    await host.quiet();
    expect(host.said()).toEqual({ c1: "paused" });
  });

  test("a question that failed is asked again; of an engine that is away, when it is listed", async () => {
    const { ask } = host;
    const refuse = (code: ErrorCode): void => {
      host.ask = () => Promise.reject(new OverlayError({ code, message: "not now" }));
    };
    refuse("DOCKER");
    host.engine.run("c1", APP);
    await vi.waitFor(
      () => expect(host.containerWatcher.status().failedLooks).toBeGreaterThan(1),
      PATIENT,
    );
    expect(host.containerWatcher.failure()).toMatchObject({
      message: "the engine does not say what its containers are called: not now",
      next: expect.stringContaining("journalctl -u docker"),
    });
    host.ask = ask;
    await vi.waitFor(() => expect(host.said()).toEqual({ c1: "in" }), PATIENT);
    expect(host.containerWatcher.failure()).toBeUndefined();
    refuse("UNREACHABLE");
    host.engine.run("c2", APP);
    await host.quiet();
    // Who lists it says so.
    expect(host.containerWatcher.failure()).toBeUndefined();
    host.ask = ask;
    await host.list();
    await host.quiet();
    expect(host.said()).toEqual({ c1: "in", c2: "in" });
  });

  test("what is no name is left out, counted and told; more than a document has names is said with it", async () => {
    const aliases = ["ok", "with space", "-", "a..b", "x".repeat(64)];
    host.engine.run("c1", { networks: { app: aliases } });
    await host.quiet();
    expect(namesOf("c1")?.slice(2)).toEqual(["ok", "-"]);
    expect(host.containerWatcher.status().leftOut).toBe(3);
    const many = Array.from({ length: 140 }, (_, k) => `a${k}`);
    host.engine.run("c2", { networks: { app: many } });
    await host.quiet();
    const c2 = [...host.own.values()].find(({ names }) => names?.[0] === "c2");
    expect([c2?.names?.length, c2?.moreNames?.length]).toEqual([32, 96]);
    const { leftOut, leftOutNames } = host.containerWatcher.status();
    expect(leftOut).toBe(3 + 14);
    expect(leftOutNames).toEqual([
      {
        container: "c1",
        network: "app",
        why: "no-name",
        names: ["with space", "a..b", "x".repeat(64)],
        count: 3,
      },
      { container: "c2", network: "app", why: "too-many", names: many.slice(126), count: 14 },
    ]);
    const { changes } = host;
    await host.list();
    await host.quiet();
    expect(host.changes).toBe(changes);
  });
});
