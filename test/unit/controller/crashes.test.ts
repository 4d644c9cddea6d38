import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { Controller } from "../../../controller/controller.ts";
import { type ControllerRecord, newCluster } from "../../../controller/core/record.ts";
import type { ControllerStore } from "../../../controller/store/port.ts";
import { SqliteStore } from "../../../controller/store/sqlite-store.ts";
import type { ControlAnswer, ControlRequest } from "../../../controller/wire/messages.ts";
import { toBase64Url } from "../../../shared/base64url.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { DockerNetworkId, type NetworkId } from "../../../shared/ids.ts";
import { Cidr, cidrOverlaps, Ip } from "../../../shared/ip.ts";
import { identityFromSeed } from "../../../shared/node/identity.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { type Clock, silentLog } from "../../../shared/ports.ts";
import { parseToken } from "../../../shared/token.ts";
import { signCertificate, verifyState } from "../../../shared/trust.ts";
import { node } from "../../support/cluster.ts";
import { CrashingStore } from "../../support/crashing-store.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { storeRecord, storedRecord } from "../../support/stored-record.ts";

/**
 * A controller that is killed at every step of every write, on a real database: what it answered is
 * there, what it did not answer is wholly there or not at all, and nothing is given out twice.
 */

const directory = mkdtempSync(join(tmpdir(), "ovt-crashes-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const seed = (k: number): Uint8Array => new Uint8Array(32).fill(k);
const root = identityFromSeed(seed(100));
const peer = identityFromSeed(seed(101));
const hosts = [1, 2, 3].map((k) => identityFromSeed(seed(k)));
const sealKey = toBase64Url(seed(77));
const clock: Clock = { nowMs: () => 0, wallMs: () => 1_000_000 };
const first = newCluster(
  { controllerPeer: peer.node, controllerNode: hosts[0]!.node, address: Ip.parse("198.51.100.1") },
  { wallMs: 0, random: seededRandom(1) },
);
const certificate = await signCertificate(root, {
  cluster: first.state.cluster,
  controller: peer.node,
});

/** What hosts and administrator were told, in one life of the cluster. */
class Told {
  readonly states: ClusterState[] = [];
  token = "";
  networks: NetworkId[] = [];
  readonly watched: Promise<void>[] = [];

  copy(): Told {
    const copy = new Told();
    copy.states.push(...this.states);
    copy.token = this.token;
    copy.networks = [...this.networks];
    return copy;
  }

  async heard(answer: ControlAnswer): Promise<void> {
    if ("state" in answer && answer.state !== undefined)
      this.states.push(await verifyState(root.publicKey, answer.state));
  }
}

type Step = (controller: Controller, told: Told) => Promise<unknown>;

const ask =
  (k: number, request: (told: Told) => ControlRequest): Step =>
  async (controller, told) => {
    const answer = await controller.handle(hosts[k - 1]!.node, request(told));
    await told.heard(answer);
    return answer;
  };

const join_ = (k: number): Step =>
  ask(k, ({ token }) => {
    const { id, secret } = parseToken(token);
    return { v: 1, kind: "join", id, secret, facts: { ...node(k), sealKey } };
  });

const make =
  (k: number, name: string): Step =>
  async (controller, told) => {
    const subnets = name === "static" ? [{ subnet: Cidr.parse("10.7.0.0/24") }] : [];
    const answer = (await ask(k, () => ({
      v: 1,
      kind: "createNetwork",
      network: {
        subnets,
        internal: false,
        attachable: true,
        labels: {},
        driverOptions: {},
        // Docker's own id: who asks again means the same network.
        createdAs: DockerNetworkId.parse(Buffer.from(name.padEnd(8)).toString("hex")),
      },
    }))(controller, told)) as ControlAnswer;
    if (answer.kind === "network") told.networks.push(answer.network.id);
    return answer;
  };

const onNetwork = (
  k: number,
  i: number,
  request: (network: NetworkId) => Record<string, unknown> & { kind: string },
): Step =>
  ask(k, ({ networks }) => ({ v: 1, ...request(networks[i]!) }) as unknown as ControlRequest);

/** Each of them writes; an answer comes, or the process has ended. */
const steps: readonly (readonly [string, Step])[] = [
  [
    "token create",
    async (controller, told) => {
      told.token = (await controller.createToken({ ttlMs: 60_000, uses: 3 })).token;
    },
  ],
  ["join h1", join_(1)],
  ["join h2", join_(2)],
  ["join h3", join_(3)],
  ["network", make(1, "app")],
  ["network, static", make(2, "static")],
  [
    "name",
    onNetwork(1, 0, (network) => ({
      kind: "nameNetwork",
      network,
      name: "app",
      labels: { a: "b" },
      attachable: true,
    })),
  ],
  ["block of h1", onNetwork(1, 0, (network) => ({ kind: "allotBlock", network, family: 4 }))],
  ["block of h2", onNetwork(2, 0, (network) => ({ kind: "allotBlock", network, family: 4 }))],
  ["block of h3", onNetwork(3, 0, (network) => ({ kind: "allotBlock", network, family: 4 }))],
  ["address", onNetwork(2, 1, (network) => ({ kind: "grantAddress", network, ip: "10.7.0.9" }))],
  [
    "give back",
    onNetwork(2, 1, (network) => ({ kind: "returnBlock", network, block: "10.7.0.9/32" })),
  ],
  ["rotate", onNetwork(1, 0, (network) => ({ kind: "rotateKey", network }))],
  ["end", onNetwork(2, 1, (network) => ({ kind: "removeNetwork", network }))],
  ["key schedule", (controller) => controller.changeKeySchedule({ gossipMs: 3_600_000 })],
  ["node rm h3", (controller) => controller.removeNode("h3")],
  ["network after", make(2, "after")],
  ["block after", onNetwork(2, 2, (network) => ({ kind: "allotBlock", network, family: 4 }))],
];

/** What comes next on whatever is left: a network and a block of it, for the host that was first. */
const goesOn: readonly Step[] = [
  join_(1),
  make(1, "next"),
  async (controller, told) => {
    const { id } = (await controller.state()).networks.at(-1)!;
    await ask(1, () => ({ v: 1, kind: "allotBlock", network: id, family: 4 }))(controller, told);
  },
];

function controllerOn(store: ControllerStore, told: Told, randomSeed: number): Controller {
  const keys = { controller: peer, certificate, rootKey: root.publicKey };
  const random = seededRandom(randomSeed);
  const controller = new Controller(keys, { store, clock, random, hasher: sha256, log: silentLog });
  controller.onState(() => {
    // Of one that has crashed meanwhile nothing is heard.
    const heard = controller.signedState().then(
      (state) => told.heard({ v: 1, kind: "state", state }),
      () => {},
    );
    told.watched.push(heard);
  });
  return controller;
}

let databases = 0;
async function databaseOf(record: ControllerRecord): Promise<{ path: string; store: SqliteStore }> {
  const path = join(directory, `${databases++}.db`);
  const store = new SqliteStore(path);
  await storeRecord(store, record);
  return { path, store };
}

async function recordIn(store: SqliteStore): Promise<ControllerRecord> {
  return storedRecord(store);
}

interface Point {
  readonly record: ControllerRecord;
  readonly told: Told;
}

/** What is in the database, and was told, before each step; how many steps of the store each one takes. */
async function undisturbed(): Promise<{ points: Point[]; lengths: number[] }> {
  const points: Point[] = [{ record: first, told: new Told() }];
  const lengths: number[] = [];
  for (const [i, [, step]] of steps.entries()) {
    const { record, told } = points[i]!;
    const { store } = await databaseOf(record);
    const counted = new CrashingStore(store, Infinity);
    const next = told.copy();
    await step(controllerOn(counted, next, i), next);
    lengths.push(counted.steps);
    points.push({ record: await recordIn(store), told: next });
    store.close();
  }
  return { points, lengths };
}

const { points, lengths } = await undisturbed();

function nothingTwice(states: readonly ClusterState[]): void {
  const owners = new Map<string, string>();
  const claim = (what: string, owner: string): void => {
    expect(owners.get(what) ?? owner, what).toBe(owner);
    owners.set(what, owner);
  };
  for (const state of states) {
    for (const { vni, id } of state.networks) claim(`VNI ${vni}`, id);
    for (const { index, id } of state.nodes) claim(`index ${index}`, id);
    for (const [i, a] of state.blocks.entries())
      for (const b of state.blocks.slice(i + 1))
        expect(a.network === b.network && cidrOverlaps(a.block, b.block)).toBe(false);
  }
}

test("every step of the script changes something", () => {
  for (const [i, [name]] of steps.entries())
    expect(points[i + 1]!.record, name).not.toEqual(points[i]!.record);
});

describe.each(steps.map(([name, step], i) => ({ name, step, i })))("$name", ({ step, i }) => {
  const [from, to] = [points[i]!, points[i + 1]!];

  test.each(Array.from({ length: lengths[i]! }, (_, at) => at))("killed at step %i", async (at) => {
    const { path, store } = await databaseOf(from.record);
    const told = from.told.copy();
    const crashing = new CrashingStore(store, at);
    await step(controllerOn(crashing, told, i), told).catch(() => {});
    expect(crashing.crashed).toBe(true);
    store.close();
    await Promise.all(told.watched);

    const again = new SqliteStore(path);
    const record = await recordIn(again);
    expect([from.record, to.record]).toContainEqual(record);
    const heard = told.states.map(({ revision }) => revision);
    expect(record.state.revision).toBeGreaterThanOrEqual(Math.max(0, ...heard));

    // Who had no answer asks again, and all goes on.
    const after = controllerOn(again, told, 100 + i);
    for (const later of [step, ...(i > 0 ? goesOn : [])])
      await later(after, told).catch(doneAlready);
    const end = await after.state();
    again.close();
    const { networks, nodes } = to.record.state;
    expect(end.nodes.map(({ id }) => id)).toEqual(nodes.map(({ id }) => id));
    expect(end.networks).toHaveLength(networks.length + (i > 0 ? 1 : 0));
    nothingTwice([...told.states, end]);
  });
});

/** By the life before. */
function doneAlready(error: unknown): void {
  expect(error).toMatchObject({ code: "NOT_FOUND" });
}
