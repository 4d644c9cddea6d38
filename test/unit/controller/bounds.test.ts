import { beforeAll, describe, expect, test } from "vitest";
import { Controller } from "../../../controller/controller.ts";
import type { ControllerRecord } from "../../../controller/core/record.ts";
import { checkSize, encodeRecord } from "../../../controller/encoded-record.ts";
import type { ControlRequest } from "../../../controller/wire/messages.ts";
import { StateSigner } from "../../../controller/state-signer.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { sha256, systemClock } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { headIn } from "../../../shared/state/head.ts";
import { MemoryStore } from "../../fakes/memory-controller-store.ts";
import { clusterState, node, nodeId } from "../../support/cluster.ts";
import { countingHasher } from "../../support/counting-hasher.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { signedCluster } from "../../support/signed-cluster.ts";
import { largestStates, withBlock } from "../../support/states.ts";
import { storeRecord } from "../../support/stored-record.ts";

/** What a controller takes at the bounds of a cluster, what that costs it, and what it says beyond them. */

const { root, controller, certificate } = await signedCluster();
let largest: ClusterState;
let given: ClusterState;

beforeAll(() => {
  [largest, given] = largestStates();
});

const recordOf = (state: ClusterState): ControllerRecord => ({
  format: 1,
  state,
  tokens: [],
  nextNodeIndex: 1,
  nextVni: 1,
  networkKeys: {},
});

function checked(before: ClusterState, after: ClusterState, old: Parameters<typeof checkSize>[3]) {
  const [was, is] = [recordOf(before), recordOf(after)];
  const [held, bytes] = [was, is].map((record) => encodeRecord(record).length) as [number, number];
  checkSize(was, is, { held, bytes }, old);
}

describe("at 1,000 hosts, 4,000 networks, 40,000 blocks", () => {
  test("a block more is refused, one in the place of another is not", () => {
    expect(() => checked(largest, given, [])).toThrow(/has 40000 address blocks/);
    checked(largest, { ...given, blocks: given.blocks.slice(1) }, []);
  });

  test("a change is signed and told to who holds the state before it in less than a kilobyte on top of its signature", async () => {
    const counted = countingHasher();
    const signer = new StateSigner({ controller, certificate }, counted.hasher);
    signer.goesOnFrom(largest);
    const { root } = headIn((await signer.sign(largest, {})).jws);
    counted.reset();
    signer.goesOnFrom(given);
    // The key, its bucket, the root, the change.
    expect(counted.calls).toBe(4);
    const held = { revision: largest.revision, root };
    const { changes, content } = await signer.sign(given, { held });
    expect(content).toBeUndefined();
    expect(changes).toHaveLength(1);
    expect(changes![0]!.change.length + changes![0]!.jws.length).toBeLessThan(1024);
  });

  test("what a host of 0.1.0 takes is not signed, and it is told so", async () => {
    const signer = new StateSigner({ controller, certificate }, sha256);
    await expect(signer.sign(largest)).rejects.toThrow(/hosts of 0\.1\.0/);
    const answer = await signer.sign(largest, { needWhole: [nodeId(2)] });
    expect(answer.content!.length).toBeLessThan(BOUNDS.controlAnswerBytes);
  });
});

/** With labels of so many bytes on its network. */
function labelled(state: ClusterState, bytes: number): ClusterState {
  const labels = { text: "x".repeat(bytes) };
  const networks = state.networks.map((network) => ({ ...network, labels }));
  return { ...state, revision: state.revision + 1, networks };
}

describe("a state that grows", () => {
  const state = clusterState(3);

  test("beyond an object's bound is refused by the object's name", () => {
    checked(state, labelled(state, BOUNDS.objectBytes - 2048), []);
    expect(() => checked(state, labelled(state, BOUNDS.objectBytes), [])).toThrow(
      /network 0a0a.* would have \d+ bytes, and 65536 is the most/,
    );
  });

  test("an object that 0.1.0 took, and is larger, goes on", () => {
    const large = labelled(state, BOUNDS.objectBytes);
    const rotated = large.networks.map((network) => ({ ...network, keyEpoch: 10_000 }));
    checked(large, { ...large, revision: large.revision + 1, networks: rotated }, []);
  });

  /** Too large to be signed whole, of objects within their bound. */
  function beyondWhole(bytes: number): ClusterState {
    const network = state.networks[0]!;
    const label = Object.fromEntries(
      Array.from({ length: 15 }, (_, n) => [`l${n}`, "x".repeat(4000)] as const),
    );
    const count = Math.ceil(bytes / 60_000);
    const networks = Array.from({ length: count }, (_, n) => ({
      ...network,
      id: n.toString(16).padStart(32, "0") as typeof network.id,
      vni: (256 + n) as typeof network.vni,
      labels: label,
    }));
    return { ...state, revision: state.revision + 1, networks };
  }

  test("beyond what hosts of 0.1.0 take is refused while there are some, by their names, or nobody has said", () => {
    const large = beyondWhole(BOUNDS.stateBytes);
    checked(state, large, []);
    expect(() => checked(state, large, [nodeId(2)])).toThrow(
      expect.objectContaining({ next: expect.stringMatching(/upgrade overlay-ts on h2,/) }),
    );
    expect(() => checked(state, large, undefined)).toThrow(
      expect.objectContaining({ next: expect.stringMatching(/start the agent/) }),
    );
    // It does not grow.
    checked(large, withBlock({ ...large, blocks: [] }, 1), []);
  });

  test("is not joined by a host of 0.1.0 that could not take it", async () => {
    const store = new MemoryStore();
    await storeRecord(store, recordOf(beyondWhole(BOUNDS.stateBytes)));
    const keys = { controller, certificate, rootKey: root.publicKey };
    const modules = { store, clock: systemClock, random: seededRandom(1), hasher: sha256 };
    const serving = new Controller(keys, { ...modules, log: silentLog });
    const { id: _, name: __, index: ___, joinedAtMs: ____, ...facts } = node(9);
    const secret = new Uint8Array(16);
    const join = {
      v: 1,
      kind: "join",
      id: "a".repeat(12),
      secret,
      facts: { ...facts, name: "h9" },
    };
    const before = await store.read();
    for (const [takes, code] of [
      [undefined, "UNSUPPORTED"],
      // That one's token is looked at.
      [{}, "UNAUTHENTICATED"],
    ] as const)
      expect(await serving.handle(nodeId(9), { ...join, takes } as ControlRequest)).toMatchObject({
        kind: "failed",
        failure: { code },
      });
    expect(await store.read()).toEqual(before);
  });

  test("beyond what any host takes is refused", () => {
    expect(() => checked(state, beyondWhole(BOUNDS.objectsBytes), [])).toThrow(
      /16777216 is the most/,
    );
  });
});
