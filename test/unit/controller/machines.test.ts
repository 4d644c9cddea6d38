import { describe, expect, test } from "vitest";
import { Controller } from "../../../controller/controller.ts";
import { admitNode, revokeNode } from "../../../controller/core/admission.ts";
import {
  checkJoined,
  checkMoved,
  sharedWith,
  withMachine,
} from "../../../controller/core/machines.ts";
import { type ControllerRecord, newCluster } from "../../../controller/core/record.ts";
import { decodeRecord, encodeRecord } from "../../../controller/encoded-record.ts";
import { MemoryStore } from "../../fakes/memory-controller-store.ts";
import type { ControlRequest } from "../../../controller/wire/messages.ts";
import { toBase64Url } from "../../../shared/base64url.ts";
import { MachineId } from "../../../shared/ids.ts";
import { Ip } from "../../../shared/ip.ts";
import { identityFromSeed } from "../../../shared/node/identity.ts";
import { sha256, systemClock } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { parseToken } from "../../../shared/token.ts";
import { signCertificate } from "../../../shared/trust.ts";
import { node, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { storeRecord, storedRecord } from "../../support/stored-record.ts";

const [its, another] = ["1", "2"].map((digit) => MachineId.parse(digit.repeat(32))) as [
  MachineId,
  MachineId,
];
const here = node(2).address;
const elsewhere = Ip.parse("198.51.100.52");

/** h1 and h2; h2 was admitted on `machine`, or by a host of 0.1.0. */
function cluster(machine: MachineId | undefined): ControllerRecord {
  const empty = newCluster(
    { controllerPeer: nodeId(9), controllerNode: nodeId(1), address: node(1).address },
    { wallMs: 0, random: seededRandom(1) },
  );
  const both = [1, 2].reduce<ControllerRecord>(
    (record, k) => admitNode(record, nodeId(k), node(k), undefined, 0).record,
    empty,
  );
  return withMachine(both, nodeId(2), machine);
}

const CLONED = /identity of host h2 is in use on another machine; was this machine cloned\?/;

describe("h2's key joins", () => {
  test.each<[string, MachineId | undefined, MachineId | undefined, Ip, "admitted" | "refused"]>([
    ["on its own machine", its, its, here, "admitted"],
    ["on its own machine, at another address", its, its, elsewhere, "admitted"],
    ["on another machine", its, another, elsewhere, "refused"],
    ["on another machine that has the address now", its, another, here, "refused"],
    ["on one that says no id", its, undefined, here, "refused"],
    ["admitted by 0.1.0, at its address", undefined, its, here, "admitted"],
    ["admitted by 0.1.0, without an id still", undefined, undefined, here, "admitted"],
    ["admitted by 0.1.0, at another address", undefined, its, elsewhere, "refused"],
    [
      "admitted by 0.1.0, without an id at another address",
      undefined,
      undefined,
      elsewhere,
      "refused",
    ],
  ])("%s", (_, known, machine, address, then) => {
    const ask = (replace?: true) => () =>
      checkJoined(cluster(known), nodeId(2), { machine, address, replace });
    if (then === "admitted") expect(ask()).not.toThrow();
    else expect(ask()).toThrow(CLONED);
    expect(ask(true)).not.toThrow();
  });
});

describe("h2 says that it is at another address", () => {
  test.each<[string, MachineId | undefined, MachineId | undefined, "moves" | "refused"]>([
    ["on its own machine", its, its, "moves"],
    ["on another machine", its, another, "refused"],
    ["on one that says no id", its, undefined, "moves"],
    ["admitted by 0.1.0", undefined, another, "moves"],
  ])("%s", (_, known, machine, then) => {
    const ask = (replace?: true) => () =>
      checkMoved(cluster(known), nodeId(2), { machine, replace });
    if (then === "moves") expect(ask()).not.toThrow();
    else expect(ask()).toThrow(CLONED);
    expect(ask(true)).not.toThrow();
  });
});

test("a stranger is asked nothing; that another member says the same machine id is known, and no more", () => {
  const record = cluster(its);
  const comer = { machine: its, address: elsewhere };
  expect(() => checkJoined(record, nodeId(3), comer)).not.toThrow();
  const joined = admitNode(record, nodeId(3), node(3), undefined, 0).record;
  expect(sharedWith(withMachine(joined, nodeId(3), its), nodeId(3))).toBe("h2");
  expect(sharedWith(withMachine(joined, nodeId(3), another), nodeId(3))).toBeUndefined();
  expect(sharedWith(joined, nodeId(3))).toBeUndefined();
});

test("a machine is kept in the record and not in the state, until its host is removed", () => {
  const record = cluster(its);
  expect(decodeRecord(encodeRecord(record))).toEqual(record);
  expect(JSON.stringify(record.state)).not.toContain(its);
  expect(revokeNode(record, "h2", 0).record).not.toHaveProperty("machines");
  expect(withMachine(record, nodeId(2), its)).toBe(record);
});

describe("the controller", () => {
  const [root, peer, host] = [1, 2, 3].map((k) => identityFromSeed(new Uint8Array(32).fill(k))) as [
    ReturnType<typeof identityFromSeed>,
    ReturnType<typeof identityFromSeed>,
    ReturnType<typeof identityFromSeed>,
  ];
  const sealKey = toBase64Url(new Uint8Array(32));

  async function joined() {
    const store = new MemoryStore();
    const empty = newCluster(
      { controllerPeer: peer.node, controllerNode: nodeId(1), address: node(1).address },
      { wallMs: 0, random: seededRandom(1) },
    );
    await storeRecord(store, empty);
    const certificate = await signCertificate(root, {
      cluster: empty.state.cluster,
      controller: peer.node,
    });
    const controller = new Controller(
      { controller: peer, certificate, rootKey: root.publicKey },
      { store, clock: systemClock, random: seededRandom(2), hasher: sha256, log: silentLog },
    );
    const { id, secret } = parseToken(
      (await controller.createToken({ ttlMs: 60_000, uses: 1 })).token,
    );
    const join = (k: number, more: Partial<ControlRequest> = {}) => {
      const facts = { ...node(k), name: "h2", sealKey };
      const request = { v: 1, kind: "join", id, secret, facts, ...more } as ControlRequest;
      return controller.handle(host.node, request, undefined);
    };
    expect(await join(2, { machine: its })).toMatchObject({ kind: "joined" });
    return { controller, join, held: () => storedRecord(store) };
  }

  test("refuses the key on another machine, changes nothing, and says the ways out", async () => {
    const { join, held } = await joined();
    const before = await held();
    expect(await join(3, { machine: another })).toMatchObject({
      kind: "failed",
      failure: {
        code: "CONFLICT",
        message: expect.stringMatching(CLONED),
        next: expect.stringMatching(/`overlay-ts leave` here.*if this is h2.*join --replace/),
      },
    });
    expect(await held()).toEqual(before);
    // The host itself did not hear the answer, and asks again.
    expect(await join(2, { machine: its })).toMatchObject({ kind: "joined" });
  });

  test("takes another machine in its place when a person says so, and knows that one then", async () => {
    const { controller, join, held } = await joined();
    expect(await join(3, { machine: another, replace: true })).toMatchObject({ kind: "joined" });
    expect((await held()).machines).toEqual({ [host.node]: another });
    expect((await controller.state()).nodes).toMatchObject([
      { index: 1, address: node(3).address },
    ]);
    expect(await join(2, { machine: its })).toMatchObject({ failure: { code: "CONFLICT" } });
  });

  test("moves a host on its own machine only, unless a person says so", async () => {
    const { controller, held } = await joined();
    const { address, vtep, underlayMtuBytes, ownSubnets } = node(3);
    const facts = { address, vtep, underlayMtuBytes, ownSubnets };
    const move = (more: { machine?: MachineId; replace?: true }) =>
      controller.handle(host.node, { v: 1, kind: "readdress", facts, ...more }, address);
    const before = await held();
    expect(await move({ machine: another })).toMatchObject({
      failure: { code: "CONFLICT", next: expect.stringMatching(/node readdress --replace/) },
    });
    expect(await held()).toEqual(before);
    expect(await move({ machine: another, replace: true })).toMatchObject({ kind: "joined" });
    expect(await held()).toMatchObject({
      machines: { [host.node]: another },
      state: { nodes: [{ address }] },
    });
  });
});
