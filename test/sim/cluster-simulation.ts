import { desired, plainPaths } from "../../agent/core/desired.ts";
import { plan } from "../../agent/core/plan.ts";
import { DEFAULT_REPLICA_OPTIONS, type Output, Replica } from "../../agent/core/replica.ts";
import { FakeKernel } from "../../agent/kernel/fake-kernel.ts";
import { sha256 } from "../../shared/node/system.ts";
import type { NetworkDocument } from "../../shared/documents.ts";
import type { NodeId } from "../../shared/ids.ts";
import {
  app,
  clusterState,
  endpoint,
  hashSigner,
  hashVerifier,
  nodeId,
} from "../support/cluster.ts";
import { seededRandom, type SeededRandom } from "../support/seeded-random.ts";

/** How often each fault really happened: a run without them proves nothing. */
export interface FaultMix {
  lost: number;
  duplicated: number;
  delayed: number;
  cutOff: number;
  partitions: number;
  oneWayPartitions: number;
  crashes: number;
  oldDisks: number;
}

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

interface SimNode {
  readonly k: number;
  readonly id: NodeId;
  replica: Replica;
  /** Raised with each crash: what was under way for the old process is void. */
  life: number;
  readonly kernel: FakeKernel;
  /** Docker's truth: what runs here, whatever the agent's disk says. */
  readonly running: Set<number>;
  disk: Map<NodeId, NetworkDocument>;
  /** What the disk held some time ago: a restored snapshot. */
  snapshot: Map<NodeId, NetworkDocument>;
}

/** The real core of some nodes on a virtual clock and a network that loses, doubles, delays and parts. */
export class ClusterSimulation {
  readonly faults: FaultMix = {
    lost: 0,
    duplicated: 0,
    delayed: 0,
    cutOff: 0,
    partitions: 0,
    oneWayPartitions: 0,
    crashes: 0,
    oldDisks: 0,
  };
  readonly nodes: SimNode[] = [];
  readonly #random: SeededRandom;
  readonly #state;
  readonly #queue: Event[] = [];
  /** `from>to` pairs that nothing crosses. */
  readonly #cut = new Set<string>();
  #nowMs = 0;
  #order = 0;
  #faulty = true;

  constructor(seed: number, size: number) {
    this.#random = seededRandom(seed);
    this.#state = clusterState(size);
    for (let k = 1; k <= size; k++) {
      const node: SimNode = {
        k,
        id: nodeId(k),
        replica: this.#replica(nodeId(k)),
        life: 0,
        kernel: new FakeKernel(),
        running: new Set(),
        disk: new Map(),
        snapshot: new Map(),
      };
      this.nodes.push(node);
      this.#start(node);
    }
  }

  /** Random containers and faults for the time, then a healthy network for as long as repair may take. */
  run(chaosMs: number, healMs: number): void {
    for (let atMs = 0; atMs < chaosMs; atMs += 20 + this.#random.below(80))
      this.#at(atMs, () => this.#act());
    this.#runUntil(chaosMs);
    this.#faulty = false;
    this.#cut.clear();
    this.#runUntil(chaosMs + healMs);
  }

  #act(): void {
    const node = this.#pick(this.nodes);
    const roll = this.#random.below(100);
    if (roll < 70) this.#toggleContainer(node);
    else if (roll < 80) this.#partition();
    else if (roll < 88) this.#cut.clear();
    else if (roll < 94) this.#crash(node);
    else node.snapshot = new Map(node.disk);
  }

  #toggleContainer(node: SimNode): void {
    const n = 2 + this.#random.below(12);
    const up = !node.running.has(n);
    if (up) node.running.add(n);
    else node.running.delete(n);
    const container = endpoint(node.k, n);
    this.#do(node, node.replica.change(app.id, up ? [container] : [], up ? [] : [container.id]));
  }

  #partition(): void {
    const oneWay = this.#random.below(3) === 0;
    this.faults[oneWay ? "oneWayPartitions" : "partitions"]++;
    const island = new Set(this.nodes.filter(() => this.#random.below(2) === 0));
    for (const a of this.nodes)
      for (const b of this.nodes)
        if (island.has(a) !== island.has(b) && (!oneWay || island.has(a)))
          this.#cut.add(`${a.k}>${b.k}`);
  }

  /** kill -9, and the agent starts again: containers and kernel state stand. */
  #crash(node: SimNode): void {
    this.faults.crashes++;
    if (this.#random.below(3) === 0) {
      this.faults.oldDisks++;
      node.disk = new Map(node.snapshot);
    }
    node.life++;
    node.replica = this.#replica(node.id);
    node.replica.restore([...node.disk.values()]);
    this.#start(node);
  }

  #start(node: SimNode): void {
    this.#do(node, node.replica.join(app.id, this.#nowMs));
    // Docker is the truth about what runs here.
    const held = node.replica.tables.documents(app.id).get(node.id)?.endpoints ?? [];
    const running = [...node.running].map((n) => endpoint(node.k, n));
    const gone = held
      .filter(({ id }) => !running.some((container) => container.id === id))
      .map(({ id }) => id);
    const missing = running.filter(({ id }) => !held.some((container) => container.id === id));
    if (gone.length + missing.length > 0)
      this.#do(node, node.replica.change(app.id, missing, gone));
    const { life } = node;
    const tick = (): void => {
      if (node.life !== life) return;
      this.#do(node, node.replica.tick(this.#nowMs));
      this.#at(Math.max(this.#nowMs + 1, node.replica.nextMs() ?? this.#nowMs + 100), tick);
    };
    this.#at(this.#nowMs + 1, tick);
  }

  #replica(id: NodeId): Replica {
    const replica = new Replica(
      { node: id, ...DEFAULT_REPLICA_OPTIONS },
      {
        hasher: sha256,
        signer: hashSigner(id),
        verifier: hashVerifier,
        random: this.#random,
        peers: () => this.nodes.map((node) => node.id).filter((peer) => peer !== id),
      },
    );
    replica.tables.mergeState(this.#state);
    return replica;
  }

  #do(node: SimNode, outputs: readonly Output[]): void {
    for (const output of outputs)
      switch (output.kind) {
        case "persist":
          node.disk.set(output.document.node, output.document);
          break;
        case "forget":
          node.disk.clear();
          break;
        case "publish":
          for (const peer of this.nodes)
            if (peer !== node)
              this.#send(node, peer, () =>
                this.#do(peer, peer.replica.gossip(app.id, node.id, output.bytes, this.#nowMs)),
              );
          break;
        case "request":
          this.#request(node, output);
          break;
        case "dirty": {
          const wanted = desired(
            node.replica.tables,
            node.id,
            app.id,
            plainPaths(node.replica.tables, node.id),
          );
          const steps = plan(node.kernel.readNow(app.id), wanted, node.replica.inSync(app.id));
          node.kernel.applyNow(app.id, steps);
        }
      }
  }

  #request(node: SimNode, { id, to, bytes }: Extract<Output, { kind: "request" }>): void {
    const peer = this.nodes.find((candidate) => candidate.id === to);
    const { life } = node;
    if (peer === undefined) return;
    this.#send(node, peer, () => {
      const answer = peer.replica.answer(node.id, bytes);
      this.#send(peer, node, () => {
        if (node.life === life) this.#do(node, node.replica.answered(id, answer, this.#nowMs));
      });
    });
  }

  #send(from: SimNode, to: SimNode, arrive: () => void): void {
    if (this.#cut.has(`${from.k}>${to.k}`)) {
      this.faults.cutOff++;
      return;
    }
    if (this.#faulty && this.#random.below(100) < 15) {
      this.faults.lost++;
      return;
    }
    let delayMs = 1 + this.#random.below(5);
    if (this.#faulty && this.#random.below(100) < 10) {
      this.faults.delayed++;
      delayMs += this.#random.below(800);
    }
    this.#at(this.#nowMs + delayMs, arrive);
    if (this.#faulty && this.#random.below(100) < 10) {
      this.faults.duplicated++;
      this.#at(this.#nowMs + delayMs + this.#random.below(300), arrive);
    }
  }

  #at(atMs: number, run: () => void): void {
    const event = { atMs, order: this.#order++, run };
    let low = 0;
    for (let high = this.#queue.length; low < high;) {
      const middle = (low + high) >>> 1;
      const other = this.#queue[middle];
      if (
        other !== undefined &&
        (other.atMs > atMs || (other.atMs === atMs && other.order > event.order))
      )
        low = middle + 1;
      else high = middle;
    }
    // Latest first: the next event is popped from the end.
    this.#queue.splice(low, 0, event);
  }

  #runUntil(endMs: number): void {
    for (
      let next = this.#queue.at(-1);
      next !== undefined && next.atMs <= endMs;
      next = this.#queue.at(-1)
    ) {
      this.#queue.pop();
      this.#nowMs = next.atMs;
      next.run();
    }
    this.#nowMs = endMs;
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#random.below(items.length)] as T;
  }
}
