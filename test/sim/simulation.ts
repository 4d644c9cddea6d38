import { createHash, type Hash } from "node:crypto";
import { newCluster } from "../../controller/core/record.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import type { Random } from "../../shared/ports.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { Chaos } from "./chaos.ts";
import { EventQueue } from "./event-queue.ts";
import { type FaultMix, newFaultMix } from "./faults.ts";
import { Monitor } from "./monitor.ts";
import { networkRequest } from "./network-request.ts";
import { SimController } from "./sim-controller.ts";
import type { SimAgent } from "./sim-agent.ts";
import { SimHost } from "./sim-host.ts";
import { SimNetwork } from "./sim-network.ts";
import { SimKeys, SimTrust } from "./stand-ins.ts";
import { costOfOneStart, type StartCost } from "./one-start.ts";
import { preload } from "./preload.ts";
import { differences } from "./truth.ts";
import { chance, pick, type SimOptions, type World } from "./world.ts";

/** As long as the state of some hundred hosts: too long for one gossip message. */
const LARGE_STATE_BYTES = 60_000;
const QUIET_MS = 8000;
const LONGEST_UNREST_MS = 180_000;

export interface Outcome {
  readonly seed: number;
  /** SHA-256 of all that happened, in order. */
  readonly trace: string;
  readonly faults: FaultMix;
  /** What did not hold, in words; empty: a clean run. */
  readonly failures: readonly string[];
  readonly events: number;
  readonly virtualMs: number;
  readonly endpoints: number;
  /** Of all agents' cores, added up. */
  readonly counters: Readonly<Record<string, number>>;
  readonly hosts: number;
  /** At rest, of one container more, by host. Undefined: none could start. */
  readonly start: readonly StartCost[] | undefined;
}

/** One cluster, one seed, one run. */
export class Simulation implements World {
  readonly options: SimOptions;
  readonly queue = new EventQueue();
  readonly random: Random;
  readonly faults = newFaultMix();
  readonly keys: SimKeys;
  readonly trust: SimTrust;
  readonly network: SimNetwork;
  readonly controller: SimController;
  readonly monitor: Monitor;
  readonly hosts: SimHost[] = [];
  faulty = true;
  /** For reading along; the hash is made in any case. */
  log: ((line: string) => void) | undefined;
  /** Called at each virtual second: that of a large cluster is a minute. */
  secondPassed: (() => void) | undefined;
  readonly #chaos: Chaos;
  readonly #hash: Hash = createHash("sha256");
  readonly #byNode = new Map<NodeId, SimHost>();
  readonly #byAddress = new Map<Ip, SimHost>();
  readonly #members = new Set<NodeId>();
  /** Two machines of one key: the later ones. */
  readonly #clones = new Set<SimHost>();
  readonly #counters: Record<string, number> = {};
  #lines = 0;
  #lastNumber = 0;
  #lastNetwork = 0;

  constructor(options: SimOptions) {
    const { seed } = options;
    this.options = options;
    this.random = seededRandom(seed * 7 + 1);
    this.keys = new SimKeys(seededRandom(seed * 7 + 2));
    this.trust = new SimTrust(seededRandom(seed * 7 + 3));
    this.network = new SimNetwork(this, seededRandom(seed * 7 + 4));
    this.monitor = new Monitor(this);
    this.#chaos = new Chaos(this, seededRandom(seed * 7 + 5));
    const nodes = Array.from({ length: options.nodes }, () => this.keys.mint());
    const address = addressOf(1);
    const record = newCluster(
      { controllerPeer: this.keys.mint(), controllerNode: nodes[0]!, address },
      { wallMs: 0, random: this.random },
    );
    const large = options.nodes <= 16 && chance(this.random, 15);
    const paddingBytes = large ? LARGE_STATE_BYTES : 0;
    const random = seededRandom(seed * 7 + 6);
    this.controller = new SimController(this, record, random, paddingBytes);
    for (const [i, node] of nodes.entries()) this.controller.admitFirst(node, factsOf(i + 1));
    const state = this.controller.signedState();
    const { revision } = this.controller.record.state;
    for (const node of nodes) {
      const k = ++this.#lastNumber;
      const facts = factsOf(k);
      this.#add(new SimHost(this, { ...facts, k, node, membership: { state, revision } }));
    }
    if (chance(this.random, 50)) pick(this.random, this.hosts.slice(1))!.lies = true;
    for (let i = 0; i < options.networks; i++) {
      // A liar makes the first one, so that its gateway lies in the liar's own block.
      const liar = i === 0 ? this.hosts.find(({ lies }) => lies) : undefined;
      const maker = liar ?? pick(this.random, this.hosts)!;
      this.controller.setUp(maker.node, networkRequest(this.#lastNetwork++));
      const made = this.controller.record.state.networks.at(-1)!;
      const allot = { v: 1, kind: "allotBlock", network: made.id, family: 4 } as const;
      if (liar !== undefined) this.controller.setUp(liar.node, allot);
    }
    if (options.preloaded === true) this.#preload();
    for (const host of this.hosts) this.queue.after(this.random.below(300), () => host.start());
  }

  /** Without faults, until nothing happens any more. Undefined, or that it never came to rest. */
  restsUndisturbed(): Promise<string | undefined> {
    this.faulty = false;
    return this.#rest();
  }

  async run(): Promise<Outcome> {
    const { chaosMs, endpoints, preloaded } = this.options;
    const fillMs = Math.min(chaosMs / 3, 20_000);
    for (let i = 0; i < (preloaded === true ? 0 : endpoints); i++)
      this.queue.at(400 + this.random.below(fillMs), () => this.#chaos.startContainer());
    this.#chaos.run(chaosMs);
    if (this.options.nodes > 3 && chance(this.random, 25)) this.#cutForGood();
    await this.#goOn(chaosMs);
    this.#endFaults();
    const restless = await this.#rest();
    const differing = differences(this);
    const start = restless === undefined ? await costOfOneStart(this) : undefined;
    for (const { agent } of this.hosts) if (agent !== undefined) this.ended(agent);
    const failures = [
      ...this.monitor.violations,
      ...(restless === undefined ? [] : [restless]),
      ...differing,
      ...this.#missingFaults(),
    ];
    for (const failure of failures) this.trace(`FAILURE ${failure}`);
    return {
      seed: this.options.seed,
      trace: this.#hash.digest("hex"),
      faults: this.faults,
      failures,
      events: this.queue.count,
      virtualMs: this.queue.nowMs,
      endpoints: this.hosts.reduce((sum, { containers }) => sum + containers.size, 0),
      counters: this.#counters,
      start,
      hosts: this.hosts.length,
    };
  }

  hostOf(node: NodeId): SimHost | undefined {
    return this.#byNode.get(node);
  }

  hostAt(address: Ip): SimHost | undefined {
    return this.#byAddress.get(address);
  }

  wasMember(node: NodeId): boolean {
    return this.#members.has(node);
  }

  ended({
    host,
    replication: { networks: documents, cluster, checked },
    counted,
    networks,
  }: SimAgent): void {
    const { misfits } = cluster.counters;
    if (misfits > 0)
      this.monitor.violation(`h${host.k} met ${misfits} changes that do not lead to their head`);
    for (const [prefix, counters] of [
      ["networks", documents.counters],
      ["cluster", cluster.counters],
      ["checked", checked],
      ["mesh", counted.counts()],
      ["kernel", networks.reconciler.totals()],
    ] as const)
      for (const [name, count] of Object.entries(counters)) {
        const key = `${prefix}.${name}`;
        this.#counters[key] = (this.#counters[key] ?? 0) + count;
      }
  }

  readonly trace = (line: string): void => {
    this.#lines++;
    const text = `${this.queue.nowMs} ${line}\n`;
    this.#hash.update(text);
    this.log?.(text);
  };

  /** Another machine with the host's key and disk, for some seconds. */
  clone(host: SimHost): void {
    if (!host.powered || [...this.#clones].some(({ node }) => node === host.node)) return;
    this.faults.clones++;
    this.trace(`h${host.k} is cloned`);
    this.monitor.dispute(host.node);
    const clone = host.clone();
    this.#clones.add(clone);
    clone.start();
    for (let i = 0; i < 3; i++)
      this.queue.after(this.random.below(2000), () => {
        const network = pick(this.random, clone.agent?.tables.state?.networks ?? []);
        if (network !== undefined) clone.agent?.docker.run(network.id);
      });
    this.queue.after(500 + this.random.below(4000), () => this.#endClone(clone));
  }

  evict(host: SimHost): void {
    if (this.hosts.length <= 3 || !this.controller.evict(host.node)) return;
    this.faults.evictions++;
    this.trace(`h${host.k} is evicted`);
    this.hosts.splice(this.hosts.indexOf(host), 1);
    if (this.hostAt(host.address) === host) this.#byAddress.delete(host.address);
    for (const container of host.containers.values()) this.monitor.stopped(container);
    // It goes on as if nothing had been, until somebody makes it leave; then it joins anew.
    this.queue.after(1000 + this.random.below(4000), () => {
      host.switchOff();
      for (const clone of this.#clones) if (clone.node === host.node) this.#endClone(clone);
      this.#join(host);
    });
  }

  joinNew(): void {
    if (this.hosts.length < this.options.nodes + 3) this.#join();
  }

  makeNetwork(host: SimHost | undefined): void {
    if (this.controller.record.state.networks.length >= this.options.networks + 3) return;
    host?.agent?.ask(networkRequest(this.#lastNetwork++)).then(
      () => this.faults.networksMade++,
      () => {},
    );
  }

  /** `network rm` on an engine. One network stays, for what else is to happen. */
  endNetwork({ agent }: SimHost, network: NetworkId): void {
    const networks = agent?.tables.state?.networks ?? [];
    if (networks.length > 1) void agent?.docker.removeNetwork(network);
  }

  #preload(): void {
    const { controller } = this;
    controller.setTo(preload(this, controller.record));
    const state = controller.signedState();
    const { revision } = controller.record.state;
    for (const host of this.hosts) host.membership = { state, revision };
  }

  #add(host: SimHost): void {
    this.hosts.push(host);
    this.#byNode.set(host.node, host);
    this.#byAddress.set(host.address, host);
    this.#members.add(host.node);
  }

  /** `evicted`: in the place of that one, whose eviction a restored controller may have forgotten. */
  #join(evicted?: SimHost): void {
    const k = ++this.#lastNumber;
    const node = this.keys.mint();
    const facts = {
      ...factsOf(k),
      ...(evicted && { address: evicted.address, vtep: evicted.address }),
    };
    const { revision } = this.controller.record.state;
    const state = this.controller.signedState();
    const host = new SimHost(this, { ...facts, k, node, membership: { state, revision } });
    const attempt = (): void => {
      const { nodes } = this.controller.decided;
      if (nodes.some(({ id }) => id === evicted?.node)) this.controller.evict(evicted!.node);
      this.controller.ask(host, this.controller.joinRequest(facts)).then(
        ({ state, revision }) => {
          this.faults.joins++;
          this.trace(`h${k} joins`);
          host.membership = { state, revision };
          this.#add(host);
          host.start();
        },
        () => this.queue.after(500, attempt),
      );
    };
    attempt();
  }

  #endClone(clone: SimHost): void {
    if (!this.#clones.delete(clone)) return;
    this.trace(`h${clone.k}'s clone ends`);
    clone.switchOff();
  }

  /** Between two hosts nothing passes one way, and never will again. */
  #cutForGood(): void {
    const from = pick(this.random, this.hosts)!;
    const to = pick(
      this.random,
      this.hosts.filter((host) => host !== from),
    )!;
    this.faults.lastingOneWayCuts++;
    this.trace(`nothing passes from h${from.k} to h${to.k}`);
    this.network.cut(from, to);
  }

  #endFaults(): void {
    this.trace("faults end");
    this.faulty = false;
    this.network.heal();
    for (const clone of this.#clones) this.#endClone(clone);
    this.controller.isAway = false;
    this.controller.tellAgain();
    const off = chance(this.random, 40) ? pick(this.random, this.hosts.slice(1)) : undefined;
    for (const host of this.hosts) {
      host.powerOn();
      host.start();
    }
    // Of a host that was cloned the other machine may have had the last word.
    if (off === undefined || off.lies || this.monitor.isDisputed(off.node)) return;
    this.faults.leftOff++;
    // Now, or when all have settled.
    this.queue.after(pick(this.random, [0, 4000])!, () => {
      for (const container of off.containers.values()) this.monitor.stopped(container);
      off.switchOff();
    });
  }

  async #goOn(untilMs: number): Promise<void> {
    while (this.queue.nowMs < untilMs) {
      await this.queue.runUntil(Math.min(this.queue.nowMs + 1000, untilMs));
      this.secondPassed?.();
    }
  }

  /** Until nothing was written for a while. Undefined, or that it never came to rest. */
  async #rest(): Promise<string | undefined> {
    const endMs = this.queue.nowMs + LONGEST_UNREST_MS;
    let lines = this.#lines;
    let quietSinceMs = this.queue.nowMs;
    while (this.queue.nowMs < endMs) {
      await this.#goOn(this.queue.nowMs + 1000);
      if (this.#lines !== lines) quietSinceMs = this.queue.nowMs;
      lines = this.#lines;
      if (this.queue.nowMs - quietSinceMs >= QUIET_MS) return undefined;
    }
    return `no rest ${LONGEST_UNREST_MS / 1000} s after the last fault`;
  }

  #missingFaults(): string[] {
    const { partitions, oneWayPartitions, crashes, started } = this.faults;
    const { endpoints, nodes, preloaded } = this.options;
    return [
      ...(partitions + oneWayPartitions === 0 ? ["a run without a partition proves nothing"] : []),
      ...(crashes === 0 ? ["a run without a crash proves nothing"] : []),
      // In a small one the controller, without which no block comes, may be off for all of it: who runs many counts.
      ...(nodes > 16 && started < (preloaded === true ? 1 : endpoints / 2)
        ? [`only ${started} of ${endpoints} containers started`]
        : []),
    ];
  }
}

function addressOf(k: number): Ip {
  return Ip.parse(`172.16.${k >> 8}.${k & 255}`);
}

function factsOf(k: number) {
  const address = addressOf(k);
  return {
    name: `h${k}`,
    address,
    vtep: address,
    underlayMtuBytes: 1500,
    ownSubnets: [],
    sealKey: "",
  };
}
