import { beforeEach, expect, test, vi } from "vitest";
import { EndpointRecovery } from "../../../agent/networks/endpoint-recovery.ts";
import { Leases } from "../../../agent/networks/leases.ts";
import type { LocalPort } from "../../../agent/core/data-plane/kernel-state.ts";
import { changeOwn } from "../../../agent/core/tables/own-documents.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { FakeKernel } from "../../fakes/fake-kernel.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import { claimedAddresses, type Endpoint, type HostDocument } from "../../../shared/documents.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { type EndpointId, NetworkId } from "../../../shared/ids.ts";
import { linkLocalOf } from "../../../shared/mac.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import {
  app,
  clusterState,
  dataPlane,
  endpoint,
  hashSigner,
  nodeId,
  vtepOf,
  withIpv6,
} from "../../support/cluster.ts";

const SELF = nodeId(1);
const web: NetworkRecord = { ...app, id: NetworkId.parse("0b".repeat(16)), name: "web" };

let tables: Tables;
let kernel: FakeKernel;
let leases: Leases;
let fresh: boolean;
/** What does not fit its document. */
let full: EndpointId | undefined;
/** Networks that were entered, that nobody uses here, and that a pass was asked for. */
let entered: NetworkId[];
let unused: NetworkId[];
let dirty: NetworkId[];
let endpointRecovery: EndpointRecovery;

beforeEach(() => {
  tables = new Tables();
  kernel = new FakeKernel();
  leases = new Leases(new Disk(new MemoryStore()));
  fresh = false;
  full = undefined;
  [entered, unused, dirty] = [[], [], []];
  endpointRecovery = new EndpointRecovery({
    self: SELF,
    bootId: "this boot",
    kernel,
    replication: { tables, stateIsFresh: () => fresh, change },
    leases,
    localNetworks: {
      endpoints,
      adopt: (network, held) => {
        if (held.id === full) throw new OverlayError({ code: "FULL", message: "no room" });
        change(network, [held], []);
      },
      enterAgain: async (network) => void entered.push(network),
      notUsed: (network) => unused.push(network),
    },
    lookedAt: (network) => dirty.push(network),
    log: silentLog,
  });
});

test("before an address is given, it is known which containers run here; or none is given", async () => {
  const held = endpoint(1, 5);
  inKernel(app, [portOf(held)]);
  await endpointRecovery.start();
  stateKnows(2, [app]);
  const read = vi.spyOn(kernel, "read").mockRejectedValueOnce(new Error("EPERM"));
  await expect(endpointRecovery.adopted(app.id)).rejects.toThrow(/is not known: EPERM/);
  await endpointRecovery.adopted(app.id);
  expect(leases.of(app.id)).toContain(held.ipv4);
  await endpointRecovery.adopted(app.id);
  expect(read).toHaveBeenCalledTimes(2);
});

test("each network is read once, however many ask while it is read; one that failed is read again", async () => {
  inKernel(app, [portOf(endpoint(1, 2))]);
  inKernel(web, [portOf(endpoint(1, 3))]);
  await endpointRecovery.start();
  stateKnows(2, [app, web]);
  const read = vi.spyOn(kernel, "read").mockRejectedValueOnce(new Error("EBUSY"));
  const failed = await Promise.allSettled([endpointRecovery.adopt(), endpointRecovery.adopt()]);
  expect(failed.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect(read).toHaveBeenCalledTimes(1);
  read.mockClear();
  await Promise.all([
    endpointRecovery.adopt(),
    endpointRecovery.adopt(),
    endpointRecovery.adopted(app.id),
    endpointRecovery.adopted(web.id),
  ]);
  expect(read.mock.calls).toEqual([[app.id], [web.id]]);
  expect(entered).toEqual([app.id, web.id]);
  expect(dirty).toEqual([app.id, web.id]);
});

function endpoints(network: NetworkId): readonly Endpoint[] {
  return tables.documents(network).get(SELF)?.endpoints ?? [];
}

function change(
  network: NetworkId,
  put: readonly Endpoint[],
  remove: readonly EndpointId[] = [],
): void {
  const own = { node: SELF, hasher: sha256, signer: hashSigner(SELF) };
  const held = tables.documents(network).get(SELF);
  tables.mergeNetwork(changeOwn(own, network, held, put, remove).document);
}

function stateKnows(revision: number, networks: NetworkRecord[]): void {
  tables.mergeState(clusterState(2, { revision, networks }));
}

function inKernel({ id }: NetworkRecord, ports: readonly LocalPort[] = []): void {
  kernel.applyNow(id, [
    { kind: "extend", desired: { ...dataPlane(1), network: id } },
    ...ports.map((port) => ({ kind: "putPort" as const, port })),
  ]);
}

function portOf({ id, mac, ipv4 }: Endpoint): LocalPort {
  return { endpoint: id, mac, ips: [ipv4!] };
}

function hostDocument(bootId: string): HostDocument {
  return {
    node: SELF,
    version: { incarnation: 1, seq: 1 },
    bootId,
    vtep: { advertised: vtepOf(1), local: vtepOf(1) },
    underlayMtuBytes: 1500,
    capabilities: [],
    hosting: [],
    signature: new Uint8Array(64),
  };
}

test("until the kernel was asked which networks it has, containers may run on any", async () => {
  stateKnows(1, [app]);
  expect(endpointRecovery.isWaiting(app.id)).toBe(true);
  await endpointRecovery.start();
  expect(endpointRecovery.isWaiting(app.id)).toBe(false);
});

test("ports that no document knows are said again as they stand, and their addresses are in use", async () => {
  stateKnows(1, [app]);
  const container = withIpv6(endpoint(1, 2));
  const { id, mac, ipv4, ipv6 } = container;
  const own: Endpoint = { ...endpoint(1, 3), role: "host" };
  inKernel(app, [
    { endpoint: id, mac, ips: [ipv4!, ipv6!, linkLocalOf(mac)] },
    { ...portOf(own), host: [{ ip: own.ipv4!, prefixLength: 16 }] },
  ]);
  await endpointRecovery.start();
  expect(endpoints(app.id)).toEqual([container, own]);
  expect(leases.of(app.id)).toEqual(new Set([ipv4, ipv6, own.ipv4]));
  expect([entered, unused, dirty]).toEqual([[app.id], [], [app.id]]);
  expect(endpointRecovery.waiting()).toEqual([]);
});

test("an older document, which knows some of them, does not take the others' ports and addresses", async () => {
  stateKnows(1, [app]);
  change(app.id, [endpoint(1, 2)]);
  inKernel(app, [portOf(endpoint(1, 2)), portOf(endpoint(1, 3))]);
  await endpointRecovery.start();
  expect(endpoints(app.id)).toEqual([endpoint(1, 2), endpoint(1, 3)]);
  expect(leases.of(app.id)).toContain(endpoint(1, 3).ipv4);
  expect([entered, unused, dirty]).toEqual([[app.id], [], [app.id]]);
});

test("where documents and kernel agree nothing is entered or given up", async () => {
  stateKnows(1, [app]);
  change(app.id, [endpoint(1, 2)]);
  inKernel(app, [portOf(endpoint(1, 2))]);
  await endpointRecovery.start();
  expect(endpoints(app.id)).toEqual([endpoint(1, 2)]);
  expect([entered, unused, dirty]).toEqual([[], [], [app.id]]);
});

test("a network that the state does not know yet waits for the next; what was said meanwhile stays as said", async () => {
  stateKnows(1, []);
  inKernel(app, [portOf(endpoint(1, 2)), portOf(endpoint(1, 3))]);
  inKernel(web);
  await endpointRecovery.start();
  expect(endpointRecovery.waiting()).toEqual([app.id, web.id]);
  expect(endpoints(app.id)).toEqual([]);
  const named: Endpoint = { ...endpoint(1, 2), names: ["db"] };
  change(app.id, [named]);
  stateKnows(2, [app, web]);
  await endpointRecovery.adopt();
  expect(endpoints(app.id)).toEqual([named, endpoint(1, 3)]);
  expect(leases.of(app.id)).toEqual(new Set([endpoint(1, 3).ipv4]));
  expect([entered, unused, dirty]).toEqual([[app.id], [web.id], [app.id, web.id]]);
  expect(endpointRecovery.waiting()).toEqual([]);
});

test("what cannot be read goes on waiting, and is adopted with the next round", async () => {
  stateKnows(1, [app]);
  inKernel(app, [portOf(endpoint(1, 2))]);
  const read = kernel.read.bind(kernel);
  kernel.read = () =>
    Promise.reject(new OverlayError({ code: "NETLINK", message: "no", op: "dump" }));
  await expect(endpointRecovery.start()).rejects.toThrow(OverlayError);
  expect(endpointRecovery.waiting()).toEqual([app.id]);
  fresh = true;
  endpointRecovery.giveUpUnknown();
  expect(endpointRecovery.waiting()).toEqual([app.id]);
  kernel.read = read;
  await endpointRecovery.adopt();
  expect(endpoints(app.id)).toEqual([endpoint(1, 2)]);
});

test("what cannot be said goes on waiting too, and the rest of it is said with the next round", async () => {
  stateKnows(1, [app]);
  inKernel(app, [portOf(endpoint(1, 2)), portOf(endpoint(1, 3))]);
  full = endpoint(1, 3).id;
  await expect(endpointRecovery.start()).rejects.toThrow(OverlayError);
  expect(endpointRecovery.waiting()).toEqual([app.id]);
  expect(endpoints(app.id)).toEqual([endpoint(1, 2)]);
  full = undefined;
  await endpointRecovery.adopt();
  expect(endpoints(app.id)).toEqual([endpoint(1, 2), endpoint(1, 3)]);
  expect(entered).toEqual([app.id]);
});

test("a network that no state names is given up when the state is fresh, not before", async () => {
  stateKnows(1, []);
  inKernel(app, [portOf(endpoint(1, 2))]);
  await endpointRecovery.start();
  endpointRecovery.giveUpUnknown();
  expect(endpointRecovery.waiting()).toEqual([app.id]);
  expect([unused, dirty]).toEqual([[], []]);
  fresh = true;
  endpointRecovery.giveUpUnknown();
  expect(endpointRecovery.waiting()).toEqual([]);
  expect([unused, dirty]).toEqual([[app.id], [app.id]]);
  expect(endpoints(app.id)).toEqual([]);
});

test.each([
  { said: "this boot", stays: 3 },
  { said: undefined, stays: 3 },
  { said: "the last boot", stays: 1 },
])(
  "of containers said with boot '$said' $stays of 3 endpoints stay: the host's own always",
  ({ said, stays }) => {
    stateKnows(1, [app]);
    if (said !== undefined) tables.mergeHost(hostDocument(said));
    const own: Endpoint = { ...endpoint(1, 1), role: "host" };
    const all = [own, withIpv6(endpoint(1, 2)), { ...endpoint(1, 3), role: "container" as const }];
    change(app.id, all);
    for (const ip of all.flatMap(claimedAddresses)) leases.reserve(app.id, ip);
    endpointRecovery.forgetLastBoot();
    const left = all.slice(0, stays);
    expect(endpoints(app.id)).toEqual(left);
    expect(leases.of(app.id)).toEqual(new Set(left.flatMap(claimedAddresses)));
  },
);
