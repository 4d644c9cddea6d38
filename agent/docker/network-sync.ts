import { isDeepStrictEqual } from "node:util";
import type { ClusterState, NetworkRecord } from "../../shared/cluster-state.ts";
import { asFailure, type Failure, OverlayError } from "../../shared/errors.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { Clock, Log } from "../../shared/ports.ts";
import type { Bindings } from "../networks/bindings.ts";
import type { Leases } from "../networks/leases.ts";
import { mayHost } from "../../shared/allowed.ts";
import type { ControllerLink } from "../membership/controller-link.ts";
import { type CutOff, type CutOffs, rememberCutOff, stillCutOff } from "./cut-off.ts";
import { unsupportedKind } from "./engine/client.ts";
import type { EngineEvent, DockerEngine, EngineContainer, EngineNetwork } from "./engine/port.ts";
import { dockerFailure, withDockerAdvice } from "./engine/advice.ts";
import { ensureGwbridge } from "./engine/gwbridge.ts";
import type { DefaultPool } from "./engine/default-pools.ts";
import { MadeNetworks } from "./made-networks.ts";
import { StepRetry, Steps } from "./steps.ts";
import { referredNetworks, staleReferences } from "./references.ts";
import { type ViewsWithdrawn, withdrawViews } from "./withdraw-views.ts";
import { DRIVER, planViews, shownNetwork, type ViewPlan } from "./views.ts";
import type { NetworkRemoval } from "../networks/network-removal.ts";
import { EngineEvents } from "./engine-events.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import type { ContainerWatcher } from "./container-watcher.ts";
import { ContainerReconnector } from "./reconnect-containers.ts";
import type { Replication } from "../replication/replication.ts";
import type { NameServerFeed } from "../names/name-server-feed.ts";
import { type Passed, PassLoop, type PassLoopTimes } from "../../shared/node/pass-loop.ts";
import { OrphanSweeper } from "./orphan-sweeper.ts";

const RETRY_MS = 1000;
const RESYNC_MS = 30_000;
const TIMES: PassLoopTimes = {
  /** Each pass lists all that the engine has. */
  coalesceMs: 100,
  retryFirstMs: RETRY_MS,
  /** An engine that is down, or wants to be restarted, is looked at less and less often. */
  retryMostMs: 16_000,
};
/** Events after which networks, or who refers to them, may be others. */
const WORTH_A_LOOK = ["create", "destroy", "remove", "prune", "rename", "connect", "disconnect"];
/** What the engine is, and each network's containers, are asked for less often than there are events. */
const CHECK_MS = 10_000;
export interface NetworkSyncModules {
  readonly self: NodeId;
  readonly engine: DockerEngine;
  readonly replication: Pick<Replication, "tables">;
  readonly bindings: Bindings;
  readonly leases: Leases;
  readonly localNetworks: LocalNetworks;
  readonly nameServerFeed: Pick<NameServerFeed, "hasJoined" | "leave">;
  readonly networkRemoval: NetworkRemoval;
  readonly containerWatcher: Pick<ContainerWatcher, "happened" | "listed" | "stop">;
  readonly controller: Pick<ControllerLink, "request">;
  readonly cutOffs: CutOffs;
  /** `failure` says something else. */
  readonly failureChanged?: () => void;
  /** Docker is making a network here whose name nobody knows yet. */
  readonly making: () => boolean;
  readonly clock: Pick<Clock, "nowMs">;
  readonly log: Log;
}

/** How the engine's side stands, for `status`. */
export interface DockerStatus {
  readonly reachable: boolean;
  readonly problem: string | undefined;
  readonly conflicts: ViewPlan["conflicts"];
  /** Absent of an agent of before: containers that are without a network which they had. */
  readonly cutOff?: readonly CutOff[];
}

/**
 * Keeps this engine's networks as the cluster's: events are a hint when to look, the comparison is
 * the truth. Runs beside the plugin's calls, never inside one.
 */
export class NetworkSync {
  readonly #modules: NetworkSyncModules;
  readonly #stopping = new AbortController();
  readonly #orphanSweeper: OrphanSweeper;
  readonly #reconnector: ContainerReconnector;
  readonly #madeNetworks: MadeNetworks;
  #checkedMs = -Infinity;
  #pools: readonly DefaultPool[] = [];
  readonly #stepRetry = new StepRetry(RETRY_MS, TIMES.retryMostMs);
  /** After a pass that left something undone, or waits for something: sooner than that. */
  #againInMs = RESYNC_MS;
  readonly #passes: PassLoop;
  #isStarted = false;
  #listening: Promise<void> | undefined;
  #status: DockerStatus = { reachable: false, problem: undefined, conflicts: [] };
  readonly #engineEvents: EngineEvents;
  #unheeded: ViewPlan["unheeded"] = [];

  constructor(modules: NetworkSyncModules) {
    this.#modules = modules;
    this.#passes = new PassLoop(
      () => this.#look(),
      (failure) => {
        if (failure !== undefined)
          modules.log.warn({ ...failure }, "this engine's networks are not as they should be");
        modules.failureChanged?.();
      },
      TIMES,
    );
    this.#engineEvents = new EngineEvents({ ...modules, heard: (event) => this.#heard(event) });
    this.#orphanSweeper = new OrphanSweeper(modules);
    this.#reconnector = new ContainerReconnector(modules);
    this.#madeNetworks = new MadeNetworks({
      ...modules,
      reconnector: this.#reconnector,
      changed: () => this.dirty(),
    });
  }

  start(): void {
    this.#isStarted = true;
    this.#passes.dirty();
    this.#listening = this.#engineEvents.listen(this.#stopping.signal);
  }

  /** The cluster's networks may have changed. */
  dirty(): void {
    // An engine that is back says so, as does the user who mended something.
    if (this.#isStarted) this.#passes.hurry();
  }

  status(): DockerStatus {
    return this.#status;
  }

  /** Why the last pass did not do all that is to be done, or what happens on the engine is not heard. */
  failure(): Failure | undefined {
    return this.#passes.failure() ?? this.#engineEvents.failure();
  }

  /** Networks here that lack what their user gave, as of the last pass. */
  unheeded(): ViewPlan["unheeded"] {
    return this.#unheeded;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#modules.containerWatcher.stop();
    await this.#passes.stop();
    await this.#listening;
  }

  /** This engine's views go. Unbound first: that a view goes here ends no network of the cluster. */
  async withdraw(): Promise<ViewsWithdrawn> {
    const { bindings, engine, cutOffs } = this.#modules;
    const withdrawn = await withdrawViews(engine, (view) => bindings.unbind(view));
    rememberCutOff(cutOffs, withdrawn.cutOff);
    return withdrawn;
  }

  /** Endpoints, and connections of containers, that Docker and our own documents do not agree on. */
  async differences(): Promise<{ network: NetworkId; text: string }[]> {
    return [
      ...(await this.#orphanSweeper.differences()),
      ...(await this.#reconnector.differences()),
    ];
  }

  #heard(event: EngineEvent): void {
    this.#modules.containerWatcher.happened(event);
    if (event.kind === "listening" || WORTH_A_LOOK.includes(event.action)) this.dirty();
  }

  async #look(): Promise<Passed> {
    try {
      const failure = await this.#pass();
      // Rounded up: a timer may be a fraction of a millisecond early.
      const dueMs = Math.min(this.#orphanSweeper.dueInMs(), this.#reconnector.dueInMs());
      const againInMs = Math.min(this.#againInMs, Math.max(0, dueMs) + 1);
      return { failure, againInMs };
    } catch (error) {
      // It may come back as another.
      this.#checkedMs = -Infinity;
      const failure = withDockerAdvice(asFailure(error));
      const { code, message } = failure;
      this.#status = { ...this.#status, reachable: code !== "UNREACHABLE", problem: message };
      throw new OverlayError(failure, { cause: error });
    }
  }

  /** @returns what of it could not be done */
  async #pass(): Promise<Failure | undefined> {
    const { engine, replication, localNetworks, networkRemoval, bindings } = this.#modules;
    const settings = replication.tables.state?.settings;
    if (settings === undefined) return undefined;
    const check =
      performance.now() - this.#checkedMs > CHECK_MS || this.#orphanSweeper.dueInMs() <= 0;
    if (check) await this.#checkEngine();
    const problem = await ensureGwbridge(engine, settings.gwbridgeSubnet);
    const containers = await engine.containers();
    const shown = await engine.networks();
    // After the list: a network that was made meanwhile is in it, and must not look as if it ended.
    const { state } = replication.tables;
    if (state === undefined) return undefined;
    this.#rebind(shown, state.networks);
    this.#modules.containerWatcher.listed(containers);
    this.#orphanSweeper.forgetViews(shown);
    this.#orphanSweeper.endUnmade(shown, state.networks);
    localNetworks.refer(referredNetworks(containers, state.networks, bindings.networks()));
    const steps = new Steps(this.#modules.log);
    this.#againInMs = RESYNC_MS;
    for (const network of networkRemoval.undecided())
      await steps.do(`deciding on the end of ${network}`, () => networkRemoval.decide(network));
    const plan = this.#plan(shown, state);
    await this.#show(plan, steps);
    await this.#connect(containers, shown, steps);
    const retryMs = this.#stepRetry.after(steps.problems());
    if (networkRemoval.undecided().size > 0) this.#againInMs = RETRY_MS;
    else if (steps.problems().length > 0) this.#againInMs = Math.min(this.#againInMs, retryMs);
    const problems = [...(problem === undefined ? [] : [problem]), ...steps.problems()];
    const failure = dockerFailure(problems);
    this.#status = {
      reachable: true,
      problem: failure?.message,
      conflicts: plan.conflicts,
      cutOff: this.#cutOff(containers, shown),
    };
    if (check) {
      await this.#orphanSweeper.dropEndpoints();
      this.#checkedMs = performance.now();
    }
    this.#orphanSweeper.releaseAddresses();
    return failure;
  }

  /** @throws UNSUPPORTED */
  async #checkEngine(): Promise<void> {
    const info = await this.#modules.engine.info();
    this.#pools = info.defaultPools ?? this.#pools;
    const why = unsupportedKind(info);
    if (why !== undefined)
      throw new OverlayError({
        code: "UNSUPPORTED",
        message: `this engine cannot be used: ${why}`,
        next: "run Docker's engine on this host as root, without userns-remap",
      });
  }

  #plan(shown: readonly EngineNetwork[], atList: ClusterState): ViewPlan {
    const { replication, networkRemoval, bindings, self } = this.#modules;
    const undecided = networkRemoval.undecided();
    return planViews(
      (replication.tables.state ?? atList).networks.filter(({ id }) => !undecided.has(id)),
      shown,
      bindings.networks(),
      (network) => mayHost(atList, self, network),
    );
  }

  /** The engine's networks become those of the cluster. */
  async #show(plan: ViewPlan, steps: Steps): Promise<void> {
    const { engine } = this.#modules;
    this.#heeded(plan.unheeded);
    for (const { network, view } of plan.tell)
      await steps.do(`telling the name of ${view.name}`, () =>
        this.#madeNetworks.tell(network, view, this.#pools),
      );
    let made = false;
    for (const { request } of await this.#free(plan.create))
      if (await steps.do(`showing ${request.name}`, () => engine.createNetwork(request)))
        made = true;
    for (const { docker, name } of plan.remove)
      await steps.do(`removing ${name}, which ended`, () => engine.removeNetwork(docker));
    // What was made now is looked at again: stopped containers may remember the one before. What was refused has time.
    if (made) this.dirty();
  }

  /** Containers whose network was made again are connected to it. */
  async #connect(
    containers: readonly EngineContainer[],
    shown: readonly EngineNetwork[],
    steps: Steps,
  ): Promise<void> {
    for (const { container, before, network } of staleReferences(containers, shown))
      await steps.do(`container ${container.id.slice(0, 12)} on ${network.name}, made again`, () =>
        this.#reconnect(container, { id: before, name: network.name }, network),
      );
    for (const one of await this.#reconnector.due(containers, shown))
      await steps.do(
        `container ${one.container.id.slice(0, 12)} on ${one.network.name}, again`,
        () => this.#reconnector.connect(one),
      );
  }

  #heeded(unheeded: ViewPlan["unheeded"]): void {
    const isNews = !isDeepStrictEqual(unheeded, this.#unheeded);
    this.#unheeded = unheeded;
    if (isNews) this.#modules.failureChanged?.();
  }

  #cutOff(containers: readonly EngineContainer[], shown: readonly EngineNetwork[]): CutOff[] {
    const { cutOffs } = this.#modules;
    const before = cutOffs.read();
    const still = stillCutOff(before, containers, shown);
    if (still.length < before.length) cutOffs.write(still);
    return still;
  }

  /** Names that nobody has taken since, as far as can be known: engines before 25 would have two of one name. */
  async #free(create: ViewPlan["create"]): Promise<ViewPlan["create"]> {
    if (create.length === 0) return [];
    const { engine, making } = this.#modules;
    const names = new Set((await engine.networks()).map(({ name }) => name));
    // Of what is just being made the name comes moments later; then it is decided whose it is.
    const free = making() ? [] : create.filter(({ request }) => !names.has(request.name));
    if (free.length < create.length) this.#againInMs = RETRY_MS;
    return free;
  }

  /** With what the user had asked for its connection. One that went, or started, meanwhile needs nothing. */
  async #reconnect(
    { id }: EngineContainer,
    before: Pick<EngineNetwork, "id" | "name">,
    network: EngineNetwork,
  ): Promise<void> {
    const { engine } = this.#modules;
    const found = (await engine.connections(before)).find(({ container }) => container === id);
    if (found !== undefined) await engine.connect(network.id, found);
  }

  /** After our database was lost: views name their network, and the cluster knows who made which. */
  #rebind(shown: readonly EngineNetwork[], networks: readonly NetworkRecord[]): void {
    const { bindings, networkRemoval } = this.#modules;
    for (const view of shown) {
      if (view.driver !== DRIVER || bindings.network(view.id) !== undefined) continue;
      const found = shownNetwork(view, networks);
      // Removed moments ago it may be listed still.
      if (found !== undefined && !networkRemoval.undecided().has(found.id))
        bindings.bind(view.id, found.id);
    }
  }
}
