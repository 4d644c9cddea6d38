import { setTimeout as delay } from "node:timers/promises";
import type { NetworkRecord } from "../shared/cluster-state.ts";
import { asFailure, OverlayError } from "../shared/errors.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import type { Log } from "../shared/ports.ts";
import type { Bindings } from "./bindings.ts";
import { mayHost } from "../shared/allowed.ts";
import type { ControllerLink } from "./controller-link.ts";
import { unsupportedKind } from "./docker/engine-client.ts";
import type { DockerEngine, EngineContainer, EngineNetwork } from "./docker/engine-port.ts";
import { ensureGwbridge, removeGwbridge } from "./docker/gwbridge.ts";
import { giveWay } from "./docker/give-way.ts";
import { referredNetworks, staleReferences } from "./docker/references.ts";
import { DRIVER, planViews, shownNetwork, type ViewPlan, viewOf } from "./docker/views.ts";
import type { Ending } from "./ending.ts";
import type { Hosting } from "./hosting.ts";
import type { Naming } from "./naming.ts";
import type { Replication } from "./replication.ts";
import type { Resolving } from "./resolving.ts";
import { Unlisted } from "./unlisted.ts";

const RETRY_MS = 1000;
const RESYNC_MS = 30_000;
/** What follows an event within this time shares a pass: each lists all that the engine has. */
const COALESCE_MS = 100;
/** Events after which networks, or who refers to them, may be others. */
const WORTH_A_LOOK = ["create", "destroy", "remove", "prune", "rename", "connect", "disconnect"];
/** What the engine is, and each network's containers, are asked for less often than there are events. */
const CHECK_MS = 10_000;
export interface DockerSideModules {
  readonly self: NodeId;
  readonly engine: DockerEngine;
  readonly replication: Pick<Replication, "tables">;
  readonly bindings: Bindings;
  readonly hosting: Hosting;
  readonly resolving: Pick<Resolving, "leave">;
  readonly ending: Ending;
  readonly naming: Pick<Naming, "happened" | "listed" | "stop">;
  readonly controller: Pick<ControllerLink, "request">;
  readonly log: Log;
}

/** How the engine's side stands, for `status`. */
export interface DockerStatus {
  readonly reachable: boolean;
  readonly problem: string | undefined;
  readonly conflicts: ViewPlan["conflicts"];
}

/**
 * Keeps this engine's networks as the cluster's: events are a hint when to look, the comparison is
 * the truth. Runs beside the plugin's calls, never inside one.
 */
export class DockerSide {
  readonly #modules: DockerSideModules;
  readonly #stopping = new AbortController();
  readonly #unlisted: Unlisted;
  #checkedMs = -Infinity;
  #dirty = true;
  /** Some step of the last pass failed: soon again. */
  #unfinished = false;
  #wake = (): void => {};
  #loop: Promise<unknown> = Promise.resolve();
  #status: DockerStatus = { reachable: false, problem: undefined, conflicts: [] };

  constructor(modules: DockerSideModules) {
    this.#modules = modules;
    this.#unlisted = new Unlisted(modules);
  }

  start(): void {
    this.#loop = Promise.all([this.#work(), this.#listen()]);
  }

  /** The cluster's networks may have changed. */
  dirty(): void {
    this.#dirty = true;
    this.#wake();
  }

  status(): DockerStatus {
    return this.#status;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    this.#modules.naming.stop();
    await this.#loop;
  }

  /** This engine's views go. Unbound first: that a view goes here ends no network of the cluster. */
  async withdraw(): Promise<void> {
    const { bindings, engine, log } = this.#modules;
    for (const docker of bindings.networks().keys()) {
      bindings.unbind(docker);
      await engine
        .removeNetwork(docker)
        .catch((error: unknown) => log.warn({ ...asFailure(error) }, "a view stays on the engine"));
    }
    await removeGwbridge(engine).catch((error: unknown) =>
      log.warn({ ...asFailure(error) }, "docker_gwbridge stays on the engine"),
    );
  }

  /** Endpoints that Docker and our own documents do not agree on. */
  differences(): Promise<{ network: NetworkId; text: string }[]> {
    return this.#unlisted.differences();
  }

  async #listen(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        for await (const event of this.#modules.engine.events(signal)) {
          this.#modules.naming.happened(event);
          if (event.kind === "listening" || WORTH_A_LOOK.includes(event.action)) this.dirty();
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#modules.log.debug({ message: asFailure(error).message }, "no events from Docker");
      }
      await delay(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }

  async #work(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      this.#dirty = false;
      try {
        await this.#pass();
        await delay(COALESCE_MS, undefined, { signal }).catch(() => {});
      } catch (error) {
        // It may come back as another.
        this.#checkedMs = -Infinity;
        const { code, message } = asFailure(error);
        this.#status = { ...this.#status, reachable: code !== "UNREACHABLE", problem: message };
        this.#modules.log.warn(
          { code, message },
          "this engine's networks are not as they should be",
        );
        await delay(RETRY_MS, undefined, { signal }).catch(() => {});
        this.#dirty = true;
      }
      if (!this.#dirty) await this.#sleep();
    }
  }

  async #sleep(): Promise<void> {
    const pause = new AbortController();
    const againMs = this.#unfinished ? RETRY_MS : RESYNC_MS;
    // Rounded up: a timer may be a fraction of a millisecond early.
    const sleepMs = Math.min(againMs, Math.max(0, this.#unlisted.dueInMs()) + 1);
    await Promise.race([
      new Promise<void>((resolve) => (this.#wake = resolve)),
      delay(sleepMs, undefined, { signal: pause.signal }).catch(() => {}),
    ]);
    pause.abort();
  }

  async #pass(): Promise<void> {
    const { engine, replication, bindings, hosting, ending, naming, self, log } = this.#modules;
    const settings = replication.tables.state?.settings;
    if (settings === undefined) return;
    const check = performance.now() - this.#checkedMs > CHECK_MS || this.#unlisted.dueInMs() <= 0;
    const why = check ? unsupportedKind(await engine.info()) : undefined;
    if (why !== undefined)
      throw new OverlayError({
        code: "UNSUPPORTED",
        message: `this engine cannot be used: ${why}`,
      });
    const problem = await ensureGwbridge(engine, settings.gwbridgeSubnet);
    const containers = await engine.containers();
    const shown = await engine.networks();
    // After the list: a network that was made meanwhile is in it, and must not look as if it ended.
    const { state } = replication.tables;
    if (state === undefined) return;
    this.#rebind(shown, state.networks);
    naming.listed(containers);
    this.#unlisted.forgetViews(shown);
    this.#unlisted.endUnmade(shown, state.networks);
    hosting.refer(referredNetworks(containers, state.networks, bindings.networks()));
    const problems = problem === undefined ? [] : [problem];
    this.#unfinished = false;
    // Each by itself: one network that Docker refuses must not keep the others away.
    const step = async (what: string, work: () => Promise<unknown>): Promise<void> => {
      try {
        await work();
        log.info({ what }, "engine follows the cluster");
      } catch (error) {
        problems.push(`${what}: ${asFailure(error).message}`);
        this.#unfinished = true;
      }
    };
    for (const network of ending.undecided())
      await step(`deciding on the end of ${network}`, () => ending.decide(network));
    if (ending.undecided().size > 0) this.#unfinished = true;
    const plan = planViews(
      (replication.tables.state ?? state).networks.filter(({ id }) => !ending.undecided().has(id)),
      shown,
      bindings.networks(),
      (network) => mayHost(state, self, network),
    );
    for (const { network, view } of plan.tell)
      await step(`telling the name of ${view.name}`, () => this.#tell(network, view));
    for (const { request } of plan.create)
      await step(`showing ${request.name}`, () => engine.createNetwork(request));
    for (const { docker, name } of plan.remove)
      await step(`removing ${name}, which ended`, () => engine.removeNetwork(docker));
    for (const { container, before, network } of staleReferences(containers, shown))
      await step(`container ${container.id.slice(0, 12)} on ${network.name}, made again`, () =>
        this.#reconnect(container, { id: before, name: network.name }, network),
      );
    // What was made now is looked at again: stopped containers may remember the one before.
    if (plan.create.length > 0) this.dirty();
    this.#status = {
      reachable: true,
      problem: problems.length === 0 ? undefined : problems.join("; "),
      conflicts: plan.conflicts,
    };
    if (check) {
      await this.#unlisted.dropEndpoints();
      this.#checkedMs = performance.now();
    }
    this.#unlisted.releaseAddresses();
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
    const { bindings, ending } = this.#modules;
    for (const view of shown) {
      if (view.driver !== DRIVER || bindings.network(view.id) !== undefined) continue;
      const found = shownNetwork(view, networks);
      // Removed moments ago it may be listed still.
      if (found !== undefined && !ending.undecided().has(found.id))
        bindings.bind(view.id, found.id);
    }
  }

  /** The name that Docker gave a network made here; with it, it appears on the other engines. */
  async #tell(network: NetworkId, view: EngineNetwork): Promise<void> {
    const { bindings, controller, engine, replication, self, log } = this.#modules;
    const { name, labels, attachable } = view;
    const dockerRanges = [...view.dockerRanges];
    try {
      await controller.request(
        {
          v: 1,
          kind: "nameNetwork",
          network,
          name,
          labels: { ...labels },
          attachable,
          dockerRanges,
        },
        "network",
      );
    } catch (error) {
      if (!(error instanceof OverlayError) || error.code !== "CONFLICT") throw error;
      // Made on two hosts at once: the first is the cluster's, and this engine shows that one.
      const { state } = replication.tables;
      const first = state?.networks.find((candidate) => candidate.name === name);
      // On its way here.
      if (state === undefined || first === undefined) throw error;
      log.info({ name }, "made elsewhere at the same time: this one gives way");
      if (!mayHost(state, self, first.id)) await engine.removeNetwork(view.id);
      else {
        try {
          await giveWay(view, viewOf(first, name), {
            engine,
            unbind: (docker) => bindings.unbind(docker),
            bindAgain: (docker) => bindings.bind(docker, network),
            log,
          });
        } finally {
          if (bindings.network(view.id) === undefined)
            await controller.request({ v: 1, kind: "removeNetwork", network }, "done");
        }
      }
      this.dirty();
    }
  }
}
