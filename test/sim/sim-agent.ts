import { DEFAULT_TRANSIT_POOL, transitPools } from "../../agent/core/data-plane/transit.ts";
import { plainPaths } from "../../agent/core/data-plane/desired-network.ts";
import type { Tables } from "../../agent/core/tables/tables.ts";
import type { Kernel } from "../../agent/kernel/port.ts";
import { JoinedSandboxes } from "../../agent/names/joined-sandboxes.ts";
import type { NameServerFeed } from "../../agent/names/name-server-feed.ts";
import { makeNames, makeServices } from "../../agent/names/parts.ts";
import type { ServiceFeed } from "../../agent/names/service-feed.ts";
import type { LocalNetworks } from "../../agent/networks/local-networks.ts";
import { makeNetworks, type NetworksParts } from "../../agent/networks/parts.ts";
import { CountedMesh } from "../../agent/replication/counted-mesh.ts";
import { Replication } from "../../agent/replication/replication.ts";
import { startMember } from "../../agent/start-order.ts";
import type { Disk } from "../../agent/store/disk.ts";
import type { SecurityClass, SignedState } from "../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import { type Random, silentLog } from "../../shared/ports.ts";
import { Signal } from "../../shared/signal.ts";
import { FakeBalancing } from "../fakes/fake-balancing.ts";
import { FakeNameServer } from "../fakes/fake-name-server.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { Answers } from "./answers.ts";
import type { Event } from "./event-queue.ts";
import type { Answer, Request } from "./sim-controller.ts";
import { SimDocker } from "./sim-docker.ts";
import type { SimHost } from "./sim-host.ts";
import { simKernel } from "./sim-kernel.ts";
import { saysLess } from "./old-version.ts";
import { SharedDisk } from "./shared-bytes.ts";
import { SimMesh } from "./sim-mesh.ts";
import { SimProbes } from "./sim-probes.ts";
import { oneShotSha256 } from "./stand-ins.ts";
import { WatchedTables } from "./watched-tables.ts";
import { chance, type World } from "./world.ts";

const VERIFY_MS = 1;
/** Of an agent's starts. */
const OLD_PERCENT = 5;
/** A minute in the real one, and where no fault of a moment is to be found by it. */
const RESYNC_MS = 6000;
const RESYNC_PRELOADED_MS = 60_000;
/** Ten seconds, five minutes and two minutes in the real one, and its passes are tried again less and less often. */
const LINGER_MS = 1500;
export const RETURN_AFTER_MS = 1000;
const RETRIES = { retryFirstMs: 150, retryMostMs: 1200 };
const FEED_TIMES = { completeAfterMs: 500, rememberedMs: 2000 };

/** One life of an agent: the parts of the real one, on virtual time and on ports that stand in for the machine. */
export class SimAgent {
  readonly host: SimHost;
  readonly node: NodeId;
  readonly disk: Disk;
  readonly saved: WatchedTables;
  readonly replication: Replication;
  readonly networks: NetworksParts;
  readonly nameServer = new FakeNameServer();
  readonly nameServerFeed: NameServerFeed;
  readonly balancing = new FakeBalancing();
  readonly serviceFeed: ServiceFeed;
  readonly answers = new Answers();
  readonly docker: SimDocker;
  readonly random: Random;
  readonly mesh: SimMesh;
  readonly counted: CountedMesh;
  readonly probes: SimProbes;
  alive = true;
  /** It is of 0.1.0: so must the others talk to it. */
  readonly isOld: boolean;
  readonly #world: World;
  readonly #kernel: Kernel;
  readonly #resync = new Signal();
  #started = false;
  #wholeAsked: number | undefined;

  constructor(host: SimHost, world: World) {
    const { node } = host;
    this.host = host;
    this.node = node;
    this.#world = world;
    this.random = seededRandom(world.random.below(0x1_0000_0000));
    const isMixed = world.faulty && world.options.preloaded !== true;
    this.isOld = isMixed && chance(this.random, OLD_PERCENT);
    if (this.isOld) world.faults.oldVersions++;
    this.disk = new SharedDisk(host.disk.of(this));
    this.saved = new WatchedTables(this.disk, this, world);
    this.mesh = new SimMesh(this, world);
    this.counted = new CountedMesh(this.mesh);
    const context = {
      self: node,
      log: silentLog,
      clock: host,
      timers: { after: (ms: number, run: () => void) => this.#after(ms, run) },
      random: this.random,
      viewChanged: new Signal(),
      resync: this.#resync,
    };
    this.replication = new Replication(node, {
      ...context,
      saved: this.saved,
      mesh: this.counted,
      hasher: oneShotSha256,
      signer: world.keys.signer(node),
      verifier: world.keys.verifier,
      verifyState: (signed) => this.#verify(() => world.trust.verify(signed)),
      verifyHead: (signed) => this.#verify(() => world.trust.verifyHead(signed)),
      answerKeys: () => Promise.reject(new Error("no keys are made")),
    });
    if (this.isOld) saysLess(this.replication);
    this.probes = new SimProbes(this, world, context.timers);
    const { disk, saved, replication } = this;
    const { kernel, plan } = simKernel(this, world);
    this.#kernel = kernel;
    const shared = { ...context, disk, saved, replication, reach: this.probes.reach };
    this.networks = makeNetworks(
      {
        ...shared,
        adapters: {
          kernel,
          bootId: host.bootId,
          hostSubnets: () => [],
          transitPools: transitPools(DEFAULT_TRANSIT_POOL),
        },
        sealSecretKey: new Uint8Array(32),
        plan,
        controller: { request: (request) => this.ask(request as Request) as Promise<never> },
        guardReconciler: { settled: async () => {} },
        encryption: {
          paths: () => plainPaths(this.tables, node),
          require: async () => {},
          settled: async () => {},
          wireguard: { publicKey: () => undefined },
        },
        pathsChanged: new Signal<[SecurityClass]>(),
        keyChanged: new Signal(),
      },
      {
        lingerMs: LINGER_MS,
        returnAfterMs: RETURN_AFTER_MS,
        reconciler: { coalesceMs: world.options.coalesceMs, ...RETRIES },
      },
    );
    // Keys of networks are not modelled.
    this.localNetworks.keyCame = () => {};
    const sandboxes = new JoinedSandboxes(disk);
    const adapters = { names: this.nameServer };
    this.nameServerFeed = makeNames(
      { ...shared, ...this.networks, adapters, sandboxes },
      FEED_TIMES,
    );
    this.serviceFeed = makeServices({
      ...shared,
      ...this.networks,
      sandboxes,
      adapters: { balancing: this.balancing },
      nameServerFeed: this.nameServerFeed,
    });
    this.docker = new SimDocker(this, world, { ...context, kernel });
    this.replication.networkChanged.on((network) => this.#leftAsItIs(network));
    this.replication.clusterChanged.on(() => this.#clusterChanged());
    this.replication.disconnected.on((peer) => this.probes.doubt(peer));
    this.#resync.on(() => this.#noDrifts());
  }

  get tables(): Tables {
    return this.replication.tables;
  }

  get localNetworks(): LocalNetworks {
    return this.networks.localNetworks;
  }

  async start(): Promise<void> {
    const { host, replication, networks, nameServerFeed, probes } = this;
    const { membership } = host;
    const nothing = { dirty: () => {}, soon: () => {} };
    await startMember(
      {
        ...networks,
        adapters: { kernel: this.#kernel },
        membership,
        replication,
        nameServerFeed,
        serviceFeed: this.serviceFeed,
        encryption: nothing,
        lostInterfaces: nothing,
        controller: { start: () => void (this.#started = true) },
        dataPaths: probes,
      },
      async () => {},
    );
    this.docker.start();
    this.#resyncLater();
  }

  /** Resolves when the agent has taken in the state that came with the answer. @throws UNREACHABLE, also when it was refused */
  async ask(request: Request): Promise<Answer> {
    if (this.diesNow()) return new Promise(() => {});
    const { controller, faults } = this.#world;
    const holds = this.tables.state?.revision ?? 0;
    const takes = this.isOld ? undefined : this.replication.cluster.takesOfController();
    const asked = {
      ...request,
      takes,
      ...(request.kind === "returnBlock" && { holds }),
    } as Request;
    const answer = await controller.ask(this.host, asked);
    await this.controllerTold(answer.state);
    if (request.kind === "returnBlock") faults.blocksReturned++;
    if (request.kind === "removeNetwork") faults.networksEnded++;
    return answer;
  }

  /** The cluster's newest word was heard: what it does not name is not there (any more). */
  isGone(network: NetworkId): boolean {
    return this.replication.stateIsFresh() && this.localNetworks.find(network) === undefined;
  }

  /** By its watch, or with an answer. */
  async controllerTold(signed: SignedState): Promise<void> {
    if (this.alive && this.#started) await this.replication.controllerTold(signed);
  }

  /** Its watch says that there is something new: it asks for that. */
  async controllerNews(): Promise<void> {
    const { controller } = this.#world;
    const takes = this.isOld ? undefined : this.replication.cluster.takesOfController();
    if (this.alive && this.#started) await this.controllerTold(controller.signedState(takes));
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

  /** Its mesh has left the network's topic. */
  left(network: NetworkId): void {
    this.answers.left(network);
    this.#world.monitor.left(this.host, network);
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

  /** Where no pass is made, the kernel has to be what is wanted now. */
  #leftAsItIs(network: NetworkId): void {
    const { reconciler, desiredNetworks } = this.networks;
    if (!reconciler.changed(network))
      this.#world.monitor.passed(this.host, network, desiredNetworks.want(network));
  }

  #clusterChanged(): void {
    const other = this.replication.otherMachine();
    if (other !== undefined) this.#world.monitor.otherMachineNamed(this.host, other);
    this.#fetchWhole();
    this.probes.update();
    this.docker.dirty();
  }

  /** As `ControllerLink` does beside the controller. */
  #fetchWhole(): void {
    const { controller } = this.#world;
    const revision = this.tables.state?.revision;
    if (this.isOld || this.host !== controller.host || this.#wholeAsked === revision) return;
    if (!this.replication.cluster.lacksWhole()) return;
    this.#wholeAsked = revision;
    controller.tellAgain();
  }

  #resyncAgain(): void {
    this.#resync.emit();
    this.docker.dirty();
    this.#resyncLater();
  }

  #resyncLater(): void {
    const { preloaded } = this.#world.options;
    this.later(preloaded === true ? RESYNC_PRELOADED_MS : RESYNC_MS, () => this.#resyncAgain());
  }

  /** Each loss is told here, so that the whole comparison must find what the passes left, and what was told of names. */
  #noDrifts(): void {
    const { host, networks, nameServerFeed } = this;
    if ((nameServerFeed.counters()["drifts"] ?? 0) > 0)
      this.#world.monitor.violation(`h${host.k} told of names what documents do not say`);
    for (const network of host.kernel.listNow())
      if ((networks.reconciler.status(network)?.drifts ?? 0) > 0)
        this.#world.monitor.violation(`h${host.k} found its kernel other than it was left`);
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
