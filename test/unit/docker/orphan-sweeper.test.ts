import { Disk } from "../../../agent/store/disk.ts";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Bindings } from "../../../agent/networks/bindings.ts";
import { Leases } from "../../../agent/networks/leases.ts";
import type { ContainerId, EngineNetwork } from "../../../agent/docker/engine/port.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import { OrphanSweeper } from "../../../agent/docker/orphan-sweeper.ts";
import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import type { Endpoint } from "../../../shared/documents.ts";
import { DockerNetworkId, type EndpointId } from "../../../shared/ids.ts";
import { systemClock } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { app, endpoint, nodeId } from "../../support/cluster.ts";

const VIEW = DockerNetworkId.parse("a".repeat(64));

let record: NetworkRecord | undefined;
let own: Endpoint[];
let listed: EndpointId[];
let container: ContainerId | undefined;
let left: EndpointId[];
/** Joined its container's namespace. */
let joined: EndpointId[];
let bindings: Bindings;
let leases: Leases;
let orphanSweeper: OrphanSweeper;

beforeEach(() => {
  vi.useFakeTimers();
  record = app;
  [own, listed, left, joined] = [[], [], [], []];
  const disk = new Disk(new MemoryStore());
  bindings = new Bindings(disk);
  leases = new Leases(disk);
  bindings.bind(VIEW, app.id);
  orphanSweeper = new OrphanSweeper({
    self: nodeId(1),
    engine: {
      attachments: async () => ({
        name: "app",
        internal: false,
        endpoints: listed.map((id) => ({ container, endpoint: id })),
      }),
    },
    bindings,
    leases,
    localNetworks: {
      endpoints: () => own,
      find: () => record,
      hosted: () => (own.length === 0 ? [] : [app.id]),
      remove: (_, id) => {
        own = own.filter((one) => one.id !== id);
      },
    },
    nameServerFeed: {
      hasJoined: (id) => joined.includes(id),
      leave: async (id) => void left.push(id),
    },
    clock: systemClock,
    log: silentLog,
  });
});

afterEach(() => {
  vi.useRealTimers();
});

/** A look every ten seconds. */
async function looks(seconds: number, shown: readonly DockerNetworkId[] = [VIEW]): Promise<void> {
  for (let passed = 0; passed <= seconds; passed += 10) {
    const views = shown.map((id) => ({ id }) as EngineNetwork);
    orphanSweeper.forgetViews(views);
    orphanSweeper.endUnmade(views, record === undefined ? [] : [record]);
    await orphanSweeper.dropEndpoints();
    orphanSweeper.releaseAddresses();
    vi.advanceTimersByTime(10_000);
  }
}

test("an endpoint that Docker does not list goes, with its address; a new one has time", async () => {
  const [stays, goes] = [endpoint(1, 1), { ...endpoint(1, 2), role: "container" as const }];
  const exposed = { ...endpoint(1, 3), role: "host" as const };
  own = [stays, goes, exposed];
  listed = [stays.id];
  for (const { ipv4 } of own) leases.reserve(app.id, ipv4!);
  expect(orphanSweeper.dueInMs()).toBe(Infinity);
  await looks(20);
  expect(own).toEqual([stays, goes, exposed]);
  expect(orphanSweeper.dueInMs()).toBe(0);
  await looks(0);
  expect(own).toEqual([stays, exposed]);
  expect(orphanSweeper.dueInMs()).toBe(Infinity);
  expect([...leases.of(app.id)]).toEqual([stays.ipv4, exposed.ipv4]);
  expect(left).toEqual([goes.id]);
});

test("one that joined was listed before: unlisted, it goes with the next look", async () => {
  const [stays, goes, made] = [endpoint(1, 1), endpoint(1, 2), endpoint(1, 3)];
  own = [stays, goes, made];
  joined = [stays.id, goes.id];
  listed = [stays.id];
  for (const { ipv4 } of own) leases.reserve(app.id, ipv4!);
  await orphanSweeper.dropEndpoints();
  expect(own).toEqual([stays, goes, made]);
  // Docker's own word of the end may be on its way.
  vi.advanceTimersByTime(orphanSweeper.dueInMs() - 1);
  await orphanSweeper.dropEndpoints();
  expect(own).toEqual([stays, goes, made]);
  vi.advanceTimersByTime(1);
  await orphanSweeper.dropEndpoints();
  expect(own).toEqual([stays, made]);
  expect([...leases.of(app.id)]).toEqual([stays.ipv4, made.ipv4]);
  expect(left).toEqual([goes.id]);
});

test("one that joined and is listed again was never gone", async () => {
  own = [endpoint(1, 1)];
  joined = [own[0]!.id];
  await looks(0);
  listed = joined;
  await looks(0);
  listed = [];
  await looks(0);
  expect(own).toHaveLength(1);
});

test("an address that was asked for, given back and asked for again is not given away", async () => {
  const { ipv4 } = endpoint(1, 1);
  leases.reserve(app.id, ipv4!);
  await looks(0);
  leases.release(app.id, ipv4!);
  await looks(60);
  leases.reserve(app.id, ipv4!);
  await looks(20);
  expect([...leases.of(app.id)]).toEqual([ipv4]);
  await looks(20);
  expect([...leases.of(app.id)]).toEqual([]);
});

test("an address of a network whose view went without giving it back is free again", async () => {
  const { ipv4 } = endpoint(1, 1);
  leases.reserve(app.id, ipv4!);
  bindings.unbind(VIEW);
  await looks(20);
  expect([...leases.of(app.id)]).toEqual([ipv4]);
  await looks(20);
  expect([...leases.of(app.id)]).toEqual([]);
});

test("of a network whose view went, with no word of its containers, these go", async () => {
  own = [endpoint(1, 1)];
  bindings.unbind(VIEW);
  await looks(20);
  expect(own).toHaveLength(1);
  await looks(0);
  expect(own).toEqual([]);
});

test("a network that was made for this engine, which never had it, ends; nobody else's, none with a name", async () => {
  const made = DockerNetworkId.parse("b".repeat(64));
  const { name: _, ...nameless } = { ...app, createdBy: nodeId(1), createdAs: made };
  bindings.unbind(VIEW);
  for (const other of [
    { ...nameless, name: "app" },
    { ...nameless, createdBy: nodeId(2) },
  ]) {
    record = other;
    await looks(60);
  }
  record = nameless;
  await looks(60, [made]);
  bindings.bind(made, app.id);
  await looks(10);
  bindings.unbind(made);
  expect(bindings.removed()).toEqual(new Set());
  await looks(20);
  expect(bindings.removed()).toEqual(new Set());
  await looks(0);
  expect(bindings.removed()).toEqual(new Set([app.id]));
});

test("verify names what Docker and the tables do not both have; the host's own is none of it", async () => {
  const [gone, unknown] = [endpoint(1, 1), endpoint(1, 2)];
  own = [gone, { ...endpoint(1, 3), role: "host" }, endpoint(1, 4)];
  listed = [unknown.id, endpoint(1, 4).id];
  container = "c0ffee".repeat(10);
  expect(await orphanSweeper.differences()).toEqual([
    {
      network: app.id,
      text: "it has no container 10.192.1.1, which the tables have: it goes within a minute",
    },
    {
      network: app.id,
      text: "it has endpoint 00010002, which the tables have not: `docker restart c0ffeec0ffee`",
    },
  ]);
  container = undefined;
  expect((await orphanSweeper.differences())[1]?.text).toMatch(/which the tables have not$/);
  listed = [gone.id, endpoint(1, 4).id];
  expect(await orphanSweeper.differences()).toEqual([]);
});

test("verify says who keeps a network that has ended", async () => {
  record = undefined;
  listed = [endpoint(1, 1).id];
  container = "c0ffee".repeat(10);
  expect(await orphanSweeper.differences()).toEqual([
    {
      network: app.id,
      text: "it has ended, and c0ffeec0ffee is on app: `docker network disconnect -f app c0ffeec0ffee`",
    },
  ]);
  container = undefined;
  expect((await orphanSweeper.differences())[0]?.text).toBe(
    "it has ended, and Docker has endpoint 00010001 on app",
  );
});

test("a view that the engine no longer has is forgotten", async () => {
  await looks(20, []);
  expect(bindings.network(VIEW)).toBe(app.id);
  await looks(0, []);
  expect(bindings.network(VIEW)).toBeUndefined();
});
