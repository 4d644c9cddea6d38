import { plainPaths } from "../../agent/core/data-plane/desired-network.ts";
import { FOLLOWS_CHANGES } from "../../agent/core/tables/following.ts";
import type { Tables } from "../../agent/core/tables/tables.ts";
import { Bindings } from "../../agent/networks/bindings.ts";
import { DesiredNetworks } from "../../agent/networks/desired-networks.ts";
import { EndpointRecovery } from "../../agent/networks/endpoint-recovery.ts";
import { Leases } from "../../agent/networks/leases.ts";
import type { Reconciler } from "../../agent/kernel/reconciler.ts";
import { LocalNetworks } from "../../agent/networks/local-networks.ts";
import { Replication } from "../../agent/replication/replication.ts";
import { Disk } from "../../agent/store/disk.ts";
import type { SignedState } from "../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import { type Random, silentLog } from "../../shared/ports.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { SimDocker } from "./sim-docker.ts";
import { Answers } from "./answers.ts";
import type { Event } from "./event-queue.ts";
import type { SimHost } from "./sim-host.ts";
import { SimMesh } from "./sim-mesh.ts";
import { SimNames } from "./sim-names.ts";
import { SimProbes } from "./sim-probes.ts";
import { simReconciler } from "./sim-reconciler.ts";
import { oneShotSha256 } from "./stand-ins.ts";
import { WatchedTables } from "./watched-tables.ts";
import { chance, type World } from "./world.ts";

const LINGER_MS = 1500;
const VERIFY_MS = 1;
/** Of an agent's starts. */
const OLD_PERCENT = 5;
/** A minute in the real one. */
const RESYNC_MS = 6000;

/**
 * One life of an agent: its real core, replication, networks, kernel passes and failure detector, and around them
 * what agent.ts and agent/names/name-server-feed.ts do, on virtual time.
 */
export class SimAgent {
  readonly host: SimHost;
  readonly node: NodeId;
  readonly disk: Disk;
  readonly saved: WatchedTables;
  readonly replication: Replication;
  readonly names = new SimNames();
  readonly answers = new Answers();
  readonly docker: SimDocker;
  readonly random: Random;
  readonly leases: Leases;
  readonly bindings: Bindings;
  readonly localNetworks: LocalNetworks;
  readonly mesh: SimMesh;
  readonly probes: SimProbes;
  alive = true;
  /** It is of 0.1.0: so must the others talk to it. */
  readonly isOld: boolean;
  readonly #world: World;
  readonly #recovery: EndpointRecovery;
  readonly reconciler: Reconciler;
  #changed = false;
  #started = false;

  constructor(host: SimHost, world: World) {
    const { node } = host;
    this.host = host;
    this.node = node;
    this.#world = world;
    this.random = seededRandom(world.random.below(0x1_0000_0000));
    this.isOld = world.faulty && chance(this.random, OLD_PERCENT);
    if (this.isOld) world.faults.oldVersions++;
    this.disk = new Disk(host.disk.of(this));
    this.saved = new WatchedTables(this.disk, this, world);
    this.mesh = new SimMesh(this, world);
    this.leases = new Leases(this.disk);
    this.bindings = new Bindings(this.disk);
    const shared = {
      saved: this.saved,
      timers: { after: (ms: number, run: () => void) => this.#after(ms, run) },
      log: silentLog,
    };
    this.replication = new Replication(node, {
      ...shared,
      mesh: this.mesh,
      clock: host,
      random: this.random,
      hasher: oneShotSha256,
      signer: world.keys.signer(node),
      verifier: world.keys.verifier,
      verifyState: (signed) => this.#verify(() => world.trust.verify(signed)),
      verifyHead: (signed) => this.#verify(() => world.trust.verifyHead(signed)),
      answerKeys: () => Promise.reject(new Error("no keys are made")),
    });
    this.replication.networkChanged.on((network) => this.dirty(network));
    this.replication.clusterChanged.on(() => {
      if (this.#started) this.docker.stateCame();
      this.#changedSoon();
    });
    this.replication.disconnected.on((peer) => this.probes.doubt(peer));
    this.localNetworks = new LocalNetworks(
      node,
      {
        ...shared,
        replication: this.replication,
        controller: { request: () => Promise.reject(new Error("keys are not asked for")) },
        sealSecretKey: new Uint8Array(32),
        facts: () => this.#facts(),
      },
      LINGER_MS,
    );
    const parts = {
      self: node,
      log: silentLog,
      replication: this.replication,
      localNetworks: this.localNetworks,
    };
    this.#recovery = new EndpointRecovery({
      ...parts,
      bootId: host.bootId,
      kernel: host.kernel,
      leases: this.leases,
      lookedAt: (network) => this.dirty(network),
    });
    const desired = new DesiredNetworks({
      ...parts,
      encryption: { paths: () => plainPaths(this.tables, node) },
      endpointRecovery: this.#recovery,
    });
    this.reconciler = simReconciler(this, world, shared.timers, (network) => {
      this.#updateNames(network);
      return desired.want(network);
    });
    this.docker = new SimDocker(this, world);
    this.probes = new SimProbes(this, world, shared.timers);
  }

  adopted(network: NetworkId): Promise<void> {
    return this.#recovery.adopted(network);
  }

  get tables(): Tables {
    return this.replication.tables;
  }

  async start(): Promise<void> {
    const { replication } = this;
    await replication.restore(this.host.membership.state);
    await replication.start();
    this.#recovery.forgetLastBoot();
    await this.#recovery.start();
    await this.localNetworks.start(this.#recovery.waiting());
    this.#started = true;
    this.#changedSoon();
    this.docker.start();
    this.probes.start();
    this.later(RESYNC_MS, () => this.#resync());
  }

  /** The cluster's newest word was heard: what it does not name is not there (any more). */
  isGone(network: NetworkId): boolean {
    return this.replication.stateIsFresh() && this.localNetworks.find(network) === undefined;
  }

  /** By its watch, or with an answer. */
  async controllerTold(signed: SignedState): Promise<void> {
    if (this.alive && this.#started) await this.replication.controllerTold(signed);
  }

  /** Somebody else has written in this host's kernel. */
  changedOutside(network: NetworkId): void {
    this.reconciler.changedOutside(network);
  }

  /** Names, and where frames go, follow from who is lost. */
  presenceChanged(): void {
    for (const network of this.localNetworks.hosted()) this.dirty(network);
  }

  /** What an agent had set does not happen once it has died. */
  later(ms: number, run: () => void): Event {
    return this.at(this.#world.queue.nowMs + ms, run);
  }

  at(atMs: number, run: () => void): Event {
    return this.#world.queue.at(atMs, () => {
      if (this.alive) run();
    });
  }

  dirty(network: NetworkId): void {
    this.reconciler.dirty(network);
  }

  /** Its mesh has left the network's topic. */
  left(network: NetworkId): void {
    this.answers.left(network);
    this.#world.monitor.left(this.host, network);
  }

  /** From now on once more what follows from the tables, but once for all that is told at a time. */
  #changedSoon(): void {
    if (this.#changed) return;
    this.#changed = true;
    this.later(this.#world.options.coalesceMs, () => {
      this.#changed = false;
      this.#applyState();
    });
  }

  #applyState(): void {
    if (this.tables.state === undefined) return;
    const other = this.replication.otherMachine();
    if (other !== undefined) this.#world.monitor.otherMachineNamed(this.host, other);
    this.probes.update();
    this.localNetworks.say();
    void this.#recovery.adopt().then(() => this.docker.sync());
    for (const network of [...this.localNetworks.hosted(), ...this.host.kernel.listNow()])
      this.dirty(network);
  }

  #resync(): void {
    this.#recovery.giveUpUnknown();
    this.#changedSoon();
    for (const network of this.host.kernel.listNow()) this.#check(network);
    this.later(RESYNC_MS, () => this.#resync());
  }

  /** Each loss is told here, so that the whole comparison must find what the passes left. */
  #check(network: NetworkId): void {
    const { drifts = 0 } = this.reconciler.status(network) ?? {};
    if (drifts > 0)
      this.#world.monitor.violation(`h${this.host.k} found its kernel other than it was left`);
    this.reconciler.check(network);
  }

  #updateNames(network: NetworkId): void {
    const record = this.localNetworks.find(network);
    const isHere = record !== undefined && this.localNetworks.has(network);
    if (isHere) this.names.update(this.tables, record, this.probes.lost());
    else this.names.forget(network);
  }

  #facts() {
    const own = this.tables.state?.nodes.find(({ id }) => id === this.node);
    if (own === undefined) return undefined;
    return {
      bootId: this.host.bootId,
      vtep: { advertised: own.vtep, local: own.vtep },
      underlayMtuBytes: own.underlayMtuBytes,
      capabilities: this.isOld ? [] : [FOLLOWS_CHANGES],
    };
  }

  /**
   * At each of its ports it may be killed, between two of the things that one input asked for: what it does after
   * that reaches nothing and nobody.
   */
  diesNow(): boolean {
    if (!this.alive) return true;
    const { faulty, faults, queue } = this.#world;
    if (!faulty || this.host.isClone || !chance(this.random, 0.07)) return false;
    faults.crashes++;
    faults.crashesBetween++;
    this.host.kill();
    queue.after(50 + this.random.below(1000), () => this.host.start());
    return true;
  }

  /** By its own clock. */
  #after(ms: number, run: () => void): () => void {
    const { queue } = this.#world;
    const event = this.at(this.host.atMs(this.host.nowMs() + ms), run);
    return () => queue.cancel(event);
  }

  async #verify<T>(checked: () => T): Promise<T> {
    await new Promise<void>((resolve) => this.later(VERIFY_MS, resolve));
    return checked();
  }
}
