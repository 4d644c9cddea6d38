import { beforeAll, describe, expect, test } from "vitest";
import type { ControllerRecord } from "../../../controller/core/record.ts";
import { checkSize, encodeRecord } from "../../../controller/encoded-record.ts";
import { StateSigner } from "../../../controller/state-signer.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { headIn } from "../../../shared/state/head.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";
import { countingHasher } from "../../support/counting-hasher.ts";
import { signedCluster } from "../../support/signed-cluster.ts";
import { largestStates, withBlock } from "../../support/states.ts";

/** What a controller takes at the bounds of a cluster, what that costs it, and what it says beyond them. */

const { controller, certificate } = await signedCluster();
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
    const label = { text: "x".repeat(60_000) };
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

  test("beyond what any host takes is refused", () => {
    expect(() => checked(state, beyondWhole(BOUNDS.objectsBytes), [])).toThrow(
      /16777216 is the most/,
    );
  });
});
