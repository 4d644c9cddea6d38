import fc from "fast-check";
import { expect, test } from "vitest";
import { Controller } from "../../controller/controller.ts";
import { admitNode } from "../../controller/core/admission.ts";
import { type ControllerRecord, newCluster } from "../../controller/core/record.ts";
import type { ControlRequest } from "../../controller/wire/messages.ts";
import { Cidr, Ip } from "../../shared/ip.ts";
import { identityFromSeed } from "../../shared/node/identity.ts";
import { sha256 } from "../../shared/node/system.ts";
import { silentLog } from "../../shared/ports.ts";
import { decodeChange } from "../../shared/state/change.ts";
import { headOf } from "../../shared/state/head.ts";
import { type HeldState, heldState, take } from "../../shared/state/held-state.ts";
import { ObjectTree } from "../../shared/state/object-tree.ts";
import { objectsOf, stateOf, stateWith } from "../../shared/state/objects.ts";
import { signCertificate, verifyHead, verifyState } from "../../shared/trust.ts";
import { MemoryStore } from "../fakes/memory-controller-store.ts";
import { node, nodeId } from "../support/cluster.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { storeRecord } from "../support/stored-record.ts";

/** What a controller signs of one revision, whole and as a head with what changed, is one and the same state. */

const [root, peer] = [1, 2].map((k) => identityFromSeed(new Uint8Array(32).fill(k))) as [
  ReturnType<typeof identityFromSeed>,
  ReturnType<typeof identityFromSeed>,
];
const HOSTS = 3;
const plain = { subnets: [], internal: false, attachable: true, labels: {}, driverOptions: {} };

function firstRecord(): ControllerRecord {
  const context = { wallMs: 0, random: seededRandom(1) };
  let record = newCluster(
    {
      controllerPeer: peer.node,
      controllerNode: nodeId(1),
      address: Ip.parse("198.51.100.1"),
    },
    context,
  );
  for (let k = 1; k <= HOSTS; k++)
    record = admitNode(record, nodeId(k), node(k), undefined, 0).record;
  return record;
}

interface Command {
  readonly kind:
    | "create"
    | "name"
    | "end"
    | "block"
    | "address"
    | "return"
    | "rotate"
    | "underlay"
    | "evict"
    | "restart";
  readonly host: number;
  readonly n: number;
}

const command: fc.Arbitrary<Command> = fc.record({
  kind: fc.constantFrom(
    ...(["create", "create", "name", "end", "block", "block", "address", "return"] as const),
    ...(["rotate", "underlay", "evict", "restart"] as const),
  ),
  host: fc.integer({ min: 1, max: HOSTS }),
  n: fc.nat(7),
});

/** Undefined: there is nothing to ask it of. */
async function requestOf(
  controller: Controller,
  { kind, n }: Command,
): Promise<ControlRequest | undefined> {
  const { networks, blocks } = await controller.state();
  const network = networks[n % Math.max(1, networks.length)]?.id;
  const held = blocks[n % Math.max(1, blocks.length)];
  if (kind === "create")
    return { v: 1, kind: "createNetwork", network: { ...plain, name: `n${n}` } };
  if (kind === "underlay")
    return {
      v: 1,
      kind: "underlay",
      facts: { underlayMtuBytes: 1400 + n, ownSubnets: [Cidr.parse("172.16.0.0/24")] },
    };
  if (network === undefined) return undefined;
  switch (kind) {
    case "name":
      return {
        v: 1,
        kind: "nameNetwork",
        network,
        name: `m${n}`,
        labels: { n: String(n) },
        attachable: true,
      };
    case "end":
      return { v: 1, kind: "removeNetwork", network };
    case "block":
      return { v: 1, kind: "allotBlock", network, family: 4 };
    case "address":
      return { v: 1, kind: "grantAddress", network, ip: Ip.parse(`10.192.7.${n + 10}`) };
    case "rotate":
      return { v: 1, kind: "rotateKey", network };
    default:
      return held && { v: 1, kind: "returnBlock", network: held.network, block: held.block };
  }
}

/** From what is held to the newest, which the controller signs whole as well. */
async function follow(held: HeldState | undefined, controller: Controller): Promise<HeldState> {
  const state = await verifyState(root.publicKey, await controller.signedState());
  const objects = ObjectTree.of(objectsOf(state), sha256);
  if (held === undefined) return heldState(headOf(state, objects), objects)!;
  const { revision, root: at } = held.head;
  const told = await controller.signedState({ held: { revision, root: at } });
  const newest = await verifyHead(root.publicKey, told);
  // The head is over the objects of the whole, however they came to be.
  expect(heldState(newest, objects)).toBeDefined();
  let now = held;
  for (const signed of told.changes!) {
    const head = await verifyHead(root.publicKey, { ...told, jws: signed.jws });
    const taken = take(now, head, signed.change, sha256);
    if (taken.kind !== "taken") throw new Error(`it is ${JSON.stringify(taken)}`);
    const before = stateOf(now.head, now.objects.entries());
    const after = stateOf(head, taken.held.objects.entries());
    expect(stateWith(before, head, decodeChange(signed.change))).toEqual(after);
    now = taken.held;
  }
  expect(now.head.root).toBe(newest.root);
  expect(stateOf(now.head, now.objects.entries())).toEqual(stateOf(state, objects.entries()));
  return now;
}

test("whole or followed from change to change it is one state, also over the controller's restarts", async () => {
  const store = new MemoryStore();
  const record = firstRecord();
  const certificate = await signCertificate(root, {
    cluster: record.state.cluster,
    controller: peer.node,
  });
  const start = (): Controller =>
    new Controller(
      { controller: peer, certificate, rootKey: root.publicKey },
      {
        store,
        clock: { nowMs: () => 0, wallMs: () => 1000 },
        random: seededRandom(2),
        hasher: sha256,
        log: silentLog,
      },
    );
  let followed = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 4, maxLength: 16 }), async (commands) => {
      await storeRecord(store, record);
      let controller = start();
      let held = await follow(undefined, controller);
      for (const each of commands) {
        if (each.kind === "restart") {
          held = await follow(held, controller);
          controller = start();
        }
        const request = await requestOf(controller, each);
        if (each.kind === "evict" && each.host > 1)
          await controller.removeNode(`h${each.host}`).catch(() => {});
        else if (request !== undefined) await controller.handle(nodeId(each.host), request);
        // Now and then several at once.
        if (each.n < 4) continue;
        const { revision } = held.head;
        held = await follow(held, controller);
        followed += held.head.revision - revision;
      }
      held = await follow(held, controller);
      expect(held.head.revision).toBe((await controller.state()).revision);
    }),
    { numRuns: 25 },
  );
  expect(followed).toBeGreaterThan(25);
});
