import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type {
  ContainerDetails,
  ContainerId,
  DockerEngine,
  EngineEvent,
} from "../../agent/docker/engine/port.ts";
import { DockerNetworkId } from "../../shared/ids.ts";
import type { EngineKind } from "../support/engine-root.ts";

/** An engine, and what a user does with it. */
export interface ContractedEngine {
  readonly kind: EngineKind;
  readonly engine: Pick<
    DockerEngine,
    "inspect" | "attachments" | "containers" | "events" | "remembered"
  >;
  readonly network: { readonly name: string; readonly id: DockerNetworkId };
  /**
   * On the network, with alias `Www`, host name `My.Host`, links `lv:db` and `other` to nobody here, a
   * DNS server of its own, and a health check that fails.
   */
  create(name: string): Promise<ContainerId>;
  start(id: ContainerId): Promise<unknown>;
  /** From now on its health check succeeds. */
  heal(id: ContainerId): Promise<unknown>;
  pause(id: ContainerId): Promise<unknown>;
  unpause(id: ContainerId): Promise<unknown>;
  rename(id: ContainerId, name: string): Promise<unknown>;
  kill(id: ContainerId, signal: number): Promise<unknown>;
  connect(id: ContainerId, alias: string): Promise<unknown>;
  disconnect(id: ContainerId): Promise<unknown>;
  remove(id: ContainerId): Promise<unknown>;
}

/** What names and health need of an engine: of a real one, and of the fake. */
export function engineContract(name: string, make: () => Promise<ContractedEngine>): void {
  describe(name, () => {
    const listening = new AbortController();
    const events: string[] = [];
    /** An inspection that was begun when the container's start had begun. */
    let atConnect: Promise<ContainerDetails | undefined> | undefined;
    let it: ContractedEngine;
    let id: ContainerId;
    let listener: Promise<void>;
    let ending = false;

    beforeAll(async () => {
      it = await make();
      const heard = Promise.withResolvers<void>();
      listener = (async () => {
        for await (const event of it.engine.events(listening.signal)) {
          if (event.kind === "listening") heard.resolve();
          else tell(event);
        }
      })().catch(() => {});
      await heard.promise;
    });

    afterAll(async () => {
      listening.abort();
      await listener;
    });

    function tell(event: Exclude<EngineEvent, { kind: "listening" }>): void {
      if (event.kind === "network" && event.network !== it.network.id) return;
      if (id !== undefined && event.container !== id) return;
      // Said once, twice or of what was not connected: nothing depends on it.
      if (event.action === "disconnect") return;
      // A check that ends with its container may have failed.
      if (ending && event.action.startsWith("health_status")) return;
      const signal = event.kind === "container" ? event.attributes["signal"] : undefined;
      events.push(signal === undefined ? event.action : `${event.action} ${signal}`);
      if (event.action === "connect") atConnect ??= it.engine.inspect(id);
    }

    /** Then and not earlier: the events since it was last asked. */
    async function expectEvents(expected: readonly string[]): Promise<void> {
      const until = Date.now() + 20_000;
      while (events.length < expected.length && Date.now() < until) await delay(20);
      expect(events.splice(0)).toEqual(expected);
    }

    async function look() {
      const inspected = await it.engine.inspect(id);
      const listed = (await it.engine.containers()).find((one) => one.id === id);
      const attached = (await it.engine.attachments(it.network.id)).endpoints.find(
        ({ container }) => container === id,
      )?.endpoint;
      return { inspected, listed, attached };
    }

    test("a created container has all but a life", async () => {
      id = await it.create("k1");
      await expectEvents(["create"]);
      const { inspected, listed, attached } = await look();
      expect(inspected).toMatchObject({
        id,
        name: "k1",
        hostname: "My.Host",
        state: "down",
        checked: true,
        health: undefined,
        stopSignal: 15,
        resolvers: true,
        connections: [
          {
            name: it.network.name,
            id: undefined,
            endpoint: undefined,
            aliases: ["Www"],
            links: ["lv:db", "other"],
          },
        ],
      });
      expect(listed).toMatchObject({ name: "k1", state: "down", running: false });
      expect(attached).toBeUndefined();
    });

    test("its start is told when its network is there; who inspects it then waits for the end", async () => {
      const before = (await it.engine.inspect(id))?.startedAtMs;
      await it.start(id);
      await expectEvents(["connect", "start"]);
      const { inspected, listed, attached } = await look();
      expect(attached).toMatch(/^[0-9a-f]{64}$/);
      expect((await it.engine.attachments(it.network.id)).internal).toBe(false);
      const short = id.slice(0, 12);
      expect(inspected).toMatchObject({
        state: "up",
        health: "starting",
        connections: [
          {
            name: it.network.name,
            id: it.network.id,
            endpoint: attached,
            aliases: ["Www", ...(it.kind === "20.10" ? [short, "My.Host"] : [])],
            links: ["lv:db", "other"],
          },
        ],
      });
      expect(inspected?.startedAtMs).toBeGreaterThan(before ?? NaN);
      expect(listed).toMatchObject({
        name: "k1",
        state: "up",
        running: true,
        health: "starting",
        networks: [{ name: it.network.name, id: it.network.id, endpoint: attached }],
      });
      expect(await atConnect).toMatchObject({ state: "up" });
    });

    test("health is an event; a pause is one, and ends health without another", async () => {
      await it.heal(id);
      await expectEvents(["health_status: healthy"]);
      expect(await look()).toMatchObject({
        inspected: { health: "healthy" },
        listed: { health: "healthy" },
      });
      await it.pause(id);
      await expectEvents(["pause"]);
      expect(await look()).toMatchObject({
        inspected: { state: "paused", health: "unhealthy" },
        listed: { state: "paused", running: true, health: undefined },
      });
      await it.unpause(id);
      await it.heal(id);
      await expectEvents(["unpause", "health_status: healthy"]);
      expect(await look()).toMatchObject({ inspected: { state: "up" }, listed: { state: "up" } });
    });

    test("rename, disconnect, connect", async () => {
      await it.rename(id, "k2");
      await expectEvents(["rename"]);
      expect(await look()).toMatchObject({ inspected: { name: "k2" }, listed: { name: "k2" } });
      await it.disconnect(id);
      expect((await look()).attached).toBeUndefined();
      await it.connect(id, "other");
      await expectEvents(["connect"]);
      const { inspected, attached } = await look();
      expect(attached).toBeDefined();
      expect(inspected?.connections).toMatchObject([{ endpoint: attached }]);
      expect(inspected?.connections[0]?.aliases).toContain("other");
    });

    test("a signal is remembered, with its time", async () => {
      await it.kill(id, 1);
      await expectEvents(["kill 1"]);
      // An engine remembers so many events of any kind: a pause of before may be forgotten.
      const kills = (await it.engine.remembered()).filter(
        ({ action, container }) => action === "kill" && container === id,
      );
      expect(kills.map(({ attributes }) => attributes["signal"])).toEqual(["1"]);
      const startedAtMs = (await it.engine.inspect(id))?.startedAtMs ?? NaN;
      expect(kills[0]?.atMs).toBeGreaterThan(startedAtMs);
    });

    test("the end; that what does not run is connected is told by nobody", async () => {
      ending = true;
      await it.kill(id, 9);
      await expectEvents(["kill 9", "die"]);
      const { inspected, listed, attached } = await look();
      expect(inspected?.connections).toMatchObject([{ endpoint: undefined }]);
      expect(inspected?.state).toBe("down");
      expect(listed).toMatchObject({ state: "down", running: false });
      expect(attached).toBeUndefined();
      await it.disconnect(id);
      await it.connect(id, "third");
      await it.remove(id);
      await expectEvents(["destroy"]);
      expect((await look()).inspected).toBeUndefined();
    });

    test("a network that is not there", async () => {
      const none = DockerNetworkId.parse("0".repeat(64));
      await expect(it.engine.attachments(none)).rejects.toMatchObject({ code: "NOT_FOUND" });
    });
  });
}
