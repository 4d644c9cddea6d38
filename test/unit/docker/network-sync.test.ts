import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type {
  DockerEngine,
  EngineEvent,
  EngineNetwork,
} from "../../../agent/docker/engine/port.ts";
import { NetworkSync } from "../../../agent/docker/network-sync.ts";
import { Bindings } from "../../../agent/networks/bindings.ts";
import { Leases } from "../../../agent/networks/leases.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import { DEFAULT_SETTINGS } from "../../../shared/cluster-state.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { DockerNetworkId } from "../../../shared/ids.ts";
import { app, clusterState, nodeId } from "../../support/cluster.ts";

/** As the client's, of an engine that is down. */
const DOWN = {
  code: "UNREACHABLE",
  message: "the Docker engine does not answer on /run/docker.sock: connect ECONNREFUSED",
  next: "start it: `systemctl start docker`",
} as const;
/** As Docker's, whose chains somebody flushed. */
const FLUSHED = "Docker refused: iptables: No chain/target/match by that name.";

const KIND = { version: "28", operatingSystem: "Linux", securityOptions: [], dataRoot: "/" };

/** Thrown by whatever the engine is asked. */
let down: OverlayError | undefined;
/** Thrown when it is to make a network. */
let refusal: Error | undefined;
let refused: number;
let networks: EngineNetwork[];
/** When it was asked anew, in seconds. */
let passes: number[];
let logged: string[];
let failures: (string | undefined)[];
let hear: (event: EngineEvent) => void;
let networkSync: NetworkSync;

function network(name: string, driver: string, subnets: string[]): EngineNetwork {
  return {
    id: DockerNetworkId.parse(String(networks.length).repeat(64)),
    name,
    driver,
    internal: false,
    attachable: true,
    labels: {},
    options: {},
    subnets,
    dockerRanges: [],
  };
}

const answer = async <T>(value: T): Promise<T> => {
  if (down !== undefined) throw down;
  return value;
};

const engine = {
  info: () => {
    passes.push(performance.now() / 1000);
    return answer({ ...KIND, defaultPools: [] });
  },
  networks: () => answer([...networks]),
  containers: () => answer([]),
  createNetwork: async ({ name, driver, ipam }) => {
    if (refusal !== undefined) {
      refused++;
      throw refusal;
    }
    const made = network(
      name,
      driver,
      ipam.config.map(({ subnet }) => subnet),
    );
    networks.push(made);
    return made.id;
  },
  async *events(signal) {
    while (!signal.aborted)
      yield await new Promise<EngineEvent>((resolve, reject) => {
        hear = resolve;
        signal.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
      });
  },
} satisfies Partial<DockerEngine> as unknown as DockerEngine;

beforeEach(() => {
  vi.useFakeTimers();
  [down, refusal, refused] = [undefined, undefined, 0];
  [networks, passes, logged, failures] = [[], [], [], []];
  networks.push(network("docker_gwbridge", "bridge", [DEFAULT_SETTINGS.gwbridgeSubnet]));
  const disk = new Disk(new MemoryStore());
  const log = (fields: { message?: unknown }, message: string): void =>
    void logged.push(`${message}: ${String(fields.message)}`);
  networkSync = new NetworkSync({
    self: nodeId(1),
    engine,
    replication: { tables: { state: clusterState(1) } },
    bindings: new Bindings(disk),
    leases: new Leases(disk),
    localNetworks: { refer: () => {}, endpoints: () => [], hosted: () => [] },
    nameServerFeed: { hasJoined: () => false, leave: async () => {} },
    networkRemoval: { undecided: () => new Set() },
    containerWatcher: { happened: () => {}, listed: () => {}, stop: () => {} },
    controller: { request: () => Promise.reject(new Error("nobody asks")) },
    cutOffs: { read: () => [], write: () => {} },
    failureChanged: () => void failures.push(networkSync.failure()?.message),
    making: () => false,
    log: { debug: () => {}, info: () => {}, warn: log, error: log },
  } as unknown as ConstructorParameters<typeof NetworkSync>[0]);
});

afterEach(async () => {
  await networkSync.stop();
  vi.useRealTimers();
});

const seconds = (count: number): Promise<unknown> => vi.advanceTimersByTimeAsync(count * 1000);
/** Between one pass and the next. */
const waits = (): number[] => passes.slice(1).map((at, i) => Math.round(at - passes[i]!));

test("an engine that is down is one line in the log, and asked less and less often", async () => {
  down = new OverlayError(DOWN);
  networkSync.start();
  await seconds(64);
  expect(waits()).toEqual([1, 2, 4, 8, 16, 16, 16]);
  expect(logged).toEqual([`this engine's networks are not as they should be: ${DOWN.message}`]);
  expect(failures).toEqual([DOWN.message]);
  expect(networkSync.failure()).toEqual(DOWN);
  expect(networkSync.status()).toMatchObject({ reachable: false, problem: DOWN.message });
});

test.each<[string, () => void]>([
  ["its stream of events stands again", () => hear({ kind: "listening" })],
  ["the cluster's networks changed", () => networkSync.dirty()],
])("the wait for it ends when %s; then nothing is left of the failure", async (_, happens) => {
  down = new OverlayError(DOWN);
  networkSync.start();
  await seconds(20);
  down = undefined;
  const before = passes.length;
  happens();
  await seconds(0.5);
  expect(passes.length).toBeGreaterThan(before);
  expect(networkSync.failure()).toBeUndefined();
  expect(networkSync.status()).toMatchObject({ reachable: true, problem: undefined });
  expect(failures).toEqual([DOWN.message, undefined]);
  expect(logged).toHaveLength(1);
  expect(networks.map(({ name }) => name)).toContain(app.name);
});

test("one that is down again is said again, and asked soon at first", async () => {
  down = new OverlayError(DOWN);
  networkSync.start();
  await seconds(20);
  down = undefined;
  await seconds(16);
  expect(networkSync.failure()).toBeUndefined();
  down = new OverlayError(DOWN);
  passes = [];
  networkSync.dirty();
  await seconds(4);
  expect(logged).toHaveLength(2);
  expect(networkSync.failure()).toEqual(DOWN);
});

test.each<[string, () => void]>([
  ["the way out", () => networks.splice(0)],
  ["a network", () => {}],
])("chains of Docker's that somebody flushed keep %s away: restart it", async (_, without) => {
  without();
  refusal = new OverlayError({ code: "DOCKER", message: FLUSHED });
  networkSync.start();
  await seconds(60);
  expect(networkSync.failure()).toMatchObject({
    code: "DOCKER",
    message: expect.stringContaining(FLUSHED),
    next: expect.stringMatching(/systemctl restart docker/),
  });
  expect(networkSync.status()).toMatchObject({ reachable: true });
  expect(logged).toHaveLength(1);
  // Not again and again: Docker logs each of them.
  expect(refused).toBeLessThanOrEqual(8);
  refusal = undefined;
  await seconds(32);
  expect(networkSync.failure()).toBeUndefined();
});

test("a network that Docker refuses is tried again at once when something happens on the engine", async () => {
  refusal = new OverlayError({ code: "DOCKER", message: FLUSHED });
  networkSync.start();
  await seconds(20);
  refusal = undefined;
  hear({ kind: "listening" });
  await seconds(0.5);
  expect(networkSync.failure()).toBeUndefined();
  refusal = new OverlayError({ code: "DOCKER", message: FLUSHED });
  [refused, networks] = [0, networks.filter(({ name }) => name !== app.name)];
  networkSync.dirty();
  await seconds(4);
  // As soon as the first time: at 0, 1 and 3 s.
  expect(refused).toBe(3);
});

test("what waits for the controller is tried each second: of one that is back no event says so", async () => {
  refusal = new OverlayError({ code: "UNREACHABLE", message: "the controller does not answer" });
  networkSync.start();
  await seconds(30);
  expect(refused).toBeGreaterThan(20);
});

test("what keeps one network away has a next step", async () => {
  refusal = new OverlayError({ code: "DOCKER", message: "Docker refused: no" });
  networkSync.start();
  await seconds(1);
  expect(networkSync.failure()).toMatchObject({
    message: "showing app: Docker refused: no",
    next: "see the engine's log, `journalctl -u docker`",
  });
});

test("a way out that is not the cluster's is named with what to do, and keeps no network away", async () => {
  networks = [];
  networks.push(network("docker_gwbridge", "bridge", ["172.18.0.0/16"]));
  networkSync.start();
  await seconds(1);
  expect(networkSync.failure()).toMatchObject({
    message: expect.stringMatching(/^docker_gwbridge has 172\.18\.0\.0\/16, not/),
    next: expect.stringMatching(/docker network rm docker_gwbridge/),
  });
  expect(networks.map(({ name }) => name)).toContain("app");
});
