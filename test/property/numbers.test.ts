import fc from "fast-check";
import { expect, test } from "vitest";
import { admitNode, revokeNode } from "../../controller/core/admission.ts";
import { createNetwork, removeNetwork } from "../../controller/core/networks.ts";
import { type ControllerRecord, newCluster } from "../../controller/core/record.ts";
import { promoted, recordOf, recovered } from "../../controller/core/recovery.ts";
import type { NodeId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import { nodeIdOf } from "../../shared/node-id.ts";
import { generationOf } from "../../shared/revision.ts";
import { node, nodeId } from "../support/cluster.ts";
import { seededRandom } from "../support/seeded-random.ts";

/** VNIs and indices of hosts: none is given twice, whatever of a controller was lost, as long as hosts have heard its words. */

const step = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom("network", "networkGoes", "host", "hostGoes") },
  fc.constantFrom("backUp", "restore", "promote", "promoteFromHosts", "unheard"),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class History {
  readonly vnis: number[] = [];
  readonly indices: number[] = [];
  record: ControllerRecord;
  #backup: ControllerRecord;
  readonly #context = { wallMs: 1_000_000, random: seededRandom(1) };
  #hosts = 0;

  constructor() {
    const first = { controllerPeer: nodeId(9), controllerNode: nodeId(1), address: ipOf(1) };
    this.record = newCluster(first, this.#context);
    this.take("host");
    this.#backup = this.record;
  }

  take(step: Step): void {
    const { state } = this.record;
    const { random } = this.#context;
    const controller = { node: nodeId(1), address: ipOf(1), peerId: nodeId(8) };
    const generation = generationOf(state.revision) + 1;
    switch (step) {
      case "network":
        return this.#make();
      // Hosts hold it that nobody reaches.
      case "unheard": {
        const heard = this.record;
        this.#make();
        this.record = recovered(heard, heard.state, this.#context);
        return;
      }
      case "networkGoes": {
        const network = state.networks[random.below(Math.max(1, state.networks.length))];
        if (network !== undefined)
          this.record = removeNetwork(this.record, network.createdBy, network.id).record;
        return;
      }
      case "host": {
        const k = ++this.#hosts;
        const address = ipOf(k);
        const id = k === 1 ? nodeId(1) : idOf(k);
        const facts = { ...node(1), name: `h${k}`, address, vtep: address };
        const { record, result } = admitNode(this.record, id, facts, undefined, 0);
        this.record = record;
        this.indices.push(result.index);
        return;
      }
      case "hostGoes": {
        const gone = state.nodes.findLast(({ id }) => id !== nodeId(1));
        if (gone !== undefined) this.record = revokeNode(this.record, gone.id, 0).record;
        return;
      }
      case "backUp":
        this.#backup = this.record;
        return;
      case "restore":
        this.record = recovered(this.#backup, state, this.#context);
        return;
      case "promote":
        this.record = promoted(this.#backup, state, { generation, controller }, this.#context);
        return;
      case "promoteFromHosts":
        this.record = promoted(recordOf(state), state, { generation, controller }, this.#context);
    }
  }

  #make(): void {
    const plain = { subnets: [], internal: false, attachable: true, labels: {}, driverOptions: {} };
    const { record, result } = createNetwork(this.record, nodeId(1), plain, this.#context);
    this.record = record;
    this.vnis.push(result.vni);
  }
}

function ipOf(k: number): Ip {
  return Ip.parse(`198.18.${k >> 8}.${k & 255}`);
}

function idOf(k: number): NodeId {
  return nodeIdOf(seededRandom(k).bytes(32));
}

test("no VNI and no index is given twice, and the state says which are spent", () => {
  let lost = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), (steps) => {
      const history = new History();
      for (const each of steps) {
        history.take(each);
        const { record, vnis, indices } = history;
        expect(new Set(vnis).size).toBe(vnis.length);
        expect(new Set(indices).size).toBe(indices.length);
        // However many come from now on, and whoever is left to say so.
        const { nextVni: vni, nextNodeIndex: nodeIndex } = record;
        expect(vni).toBeGreaterThan(Math.max(0, ...vnis));
        expect(nodeIndex).toBeGreaterThan(Math.max(...indices));
        expect(record.state.numbers).toEqual({ vni, nodeIndex });
      }
      lost += steps.filter((each) => each === "restore" || each.startsWith("promote")).length;
    }),
    { numRuns: 200 },
  );
  expect(lost).toBeGreaterThan(100);
});
