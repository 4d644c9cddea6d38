import { expect, test } from "vitest";
import { Controller } from "../../../controller/controller.ts";
import { admitNode } from "../../../controller/core/admission.ts";
import { QUARANTINE_MS, released } from "../../../controller/core/quarantine.ts";
import { type AddressFacts, readdressNode } from "../../../controller/core/readdress.ts";
import { type ControllerRecord, newCluster } from "../../../controller/core/record.ts";
import { MemoryStore } from "../../fakes/memory-controller-store.ts";
import { Ip } from "../../../shared/ip.ts";
import { identityFromSeed } from "../../../shared/node/identity.ts";
import { sha256, systemClock } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { signCertificate } from "../../../shared/trust.ts";
import { node } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { storeRecord } from "../../support/stored-record.ts";

/** What a member that means harm, or that moves without end, can do by saying that it is elsewhere. */

const identity = (k: number) => identityFromSeed(new Uint8Array(32).fill(k));
const [root, peer, first, second] = [identity(1), identity(2), identity(3), identity(4)];
const ip = (k: number): Ip => Ip.parse(`198.51.100.${k}`);
const wallMs = 1_000_000;
const untilMs = wallMs + QUARANTINE_MS;
const at = (address: Ip, vtep = address): AddressFacts => ({
  address,
  vtep,
  underlayMtuBytes: 1500,
  ownSubnets: [],
});

const empty = newCluster(
  { controllerPeer: peer.node, controllerNode: first.node, address: ip(1) },
  { wallMs, random: seededRandom(1) },
);
const cluster = [first, second].reduce<ControllerRecord>(
  (record, { node: id }, i) => admitNode(record, id, node(i + 1), undefined, 0).record,
  empty,
);

async function controllerOf(record: ControllerRecord): Promise<Controller> {
  const store = new MemoryStore();
  await storeRecord(store, record);
  const certificate = await signCertificate(root, {
    cluster: record.state.cluster,
    controller: peer.node,
  });
  return new Controller(
    { controller: peer, certificate, rootKey: root.publicKey },
    { store, clock: systemClock, random: seededRandom(2), hasher: sha256, log: silentLog },
  );
}

test("both where the mesh is and where containers' packets go must be where the request comes from", async () => {
  const controller = await controllerOf(cluster);
  const ask = (facts: AddressFacts, origin: Ip | undefined) =>
    controller.handle(second.node, { v: 1, kind: "readdress", facts }, origin);
  for (const [facts, origin] of [
    [at(ip(20)), ip(21)],
    [at(ip(20)), undefined],
    // Nobody's in the cluster: all would send what is for its containers to whomever that is.
    [at(ip(20), ip(66)), ip(20)],
  ] as const)
    expect(await ask(facts, origin)).toMatchObject({
      kind: "failed",
      failure: { code: "FORBIDDEN" },
    });
  expect(await controller.state()).toEqual(cluster.state);
  expect(await ask(at(ip(20)), ip(20))).toMatchObject({ kind: "joined" });
  expect((await controller.state()).nodes[1]).toMatchObject({ address: ip(20), vtep: ip(20) });
});

test("a host that moves without end does not fill the record, nor keep others from moving", () => {
  const move = (record: ControllerRecord, id: typeof first.node, k: number) =>
    readdressNode(record, id, at(ip(k)), untilMs);
  let held = cluster;
  expect(() => {
    for (let k = 100; k < 200; k++) held = move(held, second.node, k).record;
  }).toThrow(/h2 has left 8 addresses/);
  expect(held.formerAddresses).toHaveLength(8);
  expect(move(held, first.node, 20).result.address).toBe(ip(20));
  expect(move(released(held, untilMs), second.node, 20).result.address).toBe(ip(20));
});
