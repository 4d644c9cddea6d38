import type { Endpoint } from "../../shared/documents.ts";
import { asFailure, type Failure, OverlayError } from "../../shared/errors.ts";
import type { DockerNetworkId, EndpointId, NetworkId } from "../../shared/ids.ts";
import type { Clock, Log, Timers } from "../../shared/ports.ts";
import { Semaphore } from "../../shared/node/semaphore.ts";
import type { Bindings } from "../networks/bindings.ts";
import type {
  Attachments,
  ContainerDetails,
  ContainerId,
  DockerEngine,
  EngineContainer,
  EngineEvent,
} from "./engine/port.ts";
import type { LeftOut } from "../core/names/left-out.ts";
import { ContainerNames, type Look, type Unpublished } from "../core/names/container-names.ts";
import type { AskedVip } from "../balancing/vip-requests.ts";
import { givesAllVips } from "../core/balancing/vip-wish.ts";
import { Signal } from "../../shared/signal.ts";
import { containersOf } from "../networks/forget-endpoint.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import type { NameServerFeed } from "../names/name-server-feed.ts";
import { RetriedWork } from "../../shared/node/retried-work.ts";

/** Docker answers for a container when it is done with starting it: many may be waited for at once. */
const LOOKS = 64;
const RETRY_MS = 1000;
/** Each change is a message to every host: what comes within this time after one shares the next. */
const SPACING_MS = 20;
/** Containers, and names of each. */
const LEFT_OUT_SHOWN = 16;

export interface ContainerWatcherModules {
  readonly engine: Pick<DockerEngine, "inspect" | "attachments" | "remembered">;
  readonly bindings: Pick<Bindings, "network" | "networks">;
  readonly localNetworks: Pick<LocalNetworks, "hosted" | "endpoints" | "amend" | "find">;
  /** Where endpoints of ours are: Docker's Join says it too, but a database may be lost. */
  readonly nameServerFeed: Pick<NameServerFeed, "found" | "inside">;
  /** `failure` says something else. */
  readonly failureChanged?: () => void;
  readonly clock: Pick<Clock, "nowMs">;
  readonly timers: Timers;
  readonly log: Log;
}

/** For `status`. */
export interface NamingStatus {
  /** Names of containers here that nobody can ask for: how many, and the first of them. */
  readonly leftOut: number;
  readonly leftOutNames: readonly LeftOut[];
  /** Questions to the engine that it did not answer, since the start. */
  readonly failedLooks: number;
}

/**
 * Says in the own documents what this host's containers are called, and whether they are to be given as
 * answers. Events are a hint that counts at once, looks and the list put right what they did not tell.
 */
export class ContainerWatcher {
  /** Something else was said of containers than before. */
  readonly told = new Signal();
  readonly #modules: ContainerWatcherModules;
  readonly #names: ContainerNames;
  #stopped = false;
  /** Ends waits for the next try. */
  readonly #wakes = new Set<() => void>();
  readonly #looks = new Semaphore(LOOKS);
  /** Containers that are asked for, and whether an event came since. */
  readonly #asking = new Map<ContainerId, { overtaken: boolean }>();
  /** Networks that are asked for, and whether to ask again. */
  readonly #askingNetworks = new Map<NetworkId, { again: boolean }>();
  #failedLooks = 0;
  /** Questions without an answer yet, and why. */
  readonly #unanswered = new Map<object, Failure>();
  readonly #retried: RetriedWork;
  #stopTelling: (() => void) | undefined;
  #toldMs = -Infinity;

  constructor(modules: ContainerWatcherModules) {
    this.#modules = modules;
    this.#retried = new RetriedWork((failure) => {
      if (failure !== undefined)
        modules.log.warn({ ...failure }, "a question to Docker failed; asked again");
      modules.failureChanged?.();
    });
    this.#names = new ContainerNames(
      (network): network is DockerNetworkId =>
        modules.bindings.network(network as DockerNetworkId) !== undefined,
      (endpoint) =>
        modules.localNetworks
          .hosted()
          .some((network) =>
            modules.localNetworks
              .endpoints(network)
              .some(({ id, out }) => id === endpoint && out === "stopping"),
          ),
    );
  }

  /** In the order of Docker's events. */
  happened(event: EngineEvent): void {
    // Events that were lost may have been of any.
    for (const [container, asking] of this.#asking)
      if (event.kind === "listening" || event.container === container) asking.overtaken = true;
    this.#follow(this.#names.happened(event));
    if (event.kind === "listening") void this.#remember();
  }

  /** In Docker's call, which is before any event: at its end the container is found no more. */
  left(endpoint: EndpointId): void {
    this.#names.left(endpoint);
    this.#follow([]);
  }

  /** In Docker's call. */
  joined(endpoint: EndpointId): void {
    this.#names.joined(endpoint);
    this.#follow([]);
  }

  /** The engine's list, whenever somebody made one. */
  listed(containers: readonly EngineContainer[]): void {
    const { localNetworks } = this.#modules;
    const own = new Map<Endpoint, readonly DockerNetworkId[]>();
    for (const network of localNetworks.hosted()) {
      const views = this.#views(network);
      for (const endpoint of this.#containersOn(network)) own.set(endpoint, views);
    }
    this.#follow(this.#names.listed(containers, own));
  }

  /** Why the engine was asked in vain last. One that is away is said by who keeps its networks. */
  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  status(): NamingStatus {
    const leftOut = this.#names.leftOut();
    return {
      leftOut: leftOut.reduce((sum, { count }) => sum + count, 0),
      leftOutNames: leftOut
        .slice(0, LEFT_OUT_SHOWN)
        .map((one) => ({ ...one, names: one.names.slice(0, LEFT_OUT_SHOWN) })),
      failedLooks: this.#failedLooks,
    };
  }

  /** Virtual addresses that containers here ask for. */
  vipWishes(): AskedVip[] {
    const { bindings, localNetworks } = this.#modules;
    const networkOf = (docker: DockerNetworkId): NetworkId | undefined => bindings.network(docker);
    const wishes = this.#names.vipWishes((docker) => {
      const network = networkOf(docker);
      const record = network && localNetworks.find(network);
      return record !== undefined && givesAllVips(record);
    });
    return wishes.flatMap(({ network: docker, wish }) => {
      const network = networkOf(docker);
      return network === undefined ? [] : [{ network, ...wish }];
    });
  }

  /** Containers here whose ports nobody reaches, whatever `-p` says. */
  unpublished(): Unpublished[] {
    const { bindings, localNetworks } = this.#modules;
    return this.#names.unpublished((docker) => {
      const network = bindings.network(docker);
      return network !== undefined && localNetworks.find(network)?.internal === true;
    });
  }

  /** What is said stays said. */
  stop(): void {
    this.#stopped = true;
    this.#stopTelling?.();
    for (const wake of this.#wakes) wake();
  }

  #follow(looks: readonly Look[]): void {
    if (this.#stopped) return;
    for (const look of looks)
      if (look.kind === "container") void this.#lookAt(look.container);
      else if (look.kind === "other") void this.#lookAtOther(look.network);
      else {
        const network = this.#modules.bindings.network(look.network);
        if (network !== undefined) void this.#lookOn(network);
      }
    this.#tellSoon();
  }

  async #lookAt(container: ContainerId): Promise<void> {
    if (this.#asking.has(container)) return;
    const asking = { overtaken: false };
    this.#asking.set(container, asking);
    const answer = await this.#ask(() => {
      asking.overtaken = false;
      return this.#modules.engine.inspect(container);
    });
    this.#asking.delete(container);
    if (answer === undefined) return;
    // It may be older than what the event said.
    if (asking.overtaken) {
      this.#follow([{ kind: "container", container }]);
      return;
    }
    const looks = this.#names.looked(container, answer.value);
    if (answer.value !== undefined) this.#locate(answer.value);
    this.#follow(looks);
  }

  /** What happened while nobody listened, as far as the engine can tell. */
  async #remember(): Promise<void> {
    const events = await this.#ask(() => this.#modules.engine.remembered());
    if (events === undefined) return;
    this.#names.remembered(events.value);
    this.#follow([]);
  }

  async #lookAtOther(network: DockerNetworkId): Promise<void> {
    const found = await this.#ask(() => this.#attachments(network));
    if (found === undefined) return;
    this.#names.lookedOther(network, found.value);
    this.#follow([]);
  }

  #locate({ sandbox, connections }: ContainerDetails): void {
    const { bindings, nameServerFeed } = this.#modules;
    for (const { id, endpoint } of connections) {
      const network = id && bindings.network(id);
      if (sandbox !== undefined && endpoint !== undefined && network !== undefined)
        nameServerFeed.found({ endpoint, network, path: sandbox });
    }
  }

  async #lookOn(network: NetworkId): Promise<void> {
    const asking = this.#askingNetworks.get(network);
    if (asking !== undefined) {
      asking.again = true;
      return;
    }
    const mine = { again: false };
    this.#askingNetworks.set(network, mine);
    do {
      mine.again = false;
      const asked = this.#containersOn(network).map(({ id }) => id);
      const views = await this.#ask(() =>
        Promise.all(this.#views(network).map((docker) => this.#attachments(docker))),
      );
      if (views !== undefined) this.#follow(this.#names.attached(views.value, asked));
    } while (mine.again && !this.#stopped);
    this.#askingNetworks.delete(network);
  }

  async #attachments(
    network: DockerNetworkId,
  ): Promise<Attachments & { network: DockerNetworkId }> {
    const { engine } = this.#modules;
    const found = await engine.attachments(network).catch((error: unknown) => {
      if (error instanceof OverlayError && error.code === "NOT_FOUND")
        return { name: "", internal: true, endpoints: [] };
      throw error;
    });
    return { ...found, network };
  }

  /**
   * Undefined: no answer. An engine that is away is listed when it is back, and what differs then is
   * looked at; one that is slow is asked until it answers.
   */
  async #ask<T>(question: () => Promise<T>): Promise<{ readonly value: T } | undefined> {
    while (!this.#stopped)
      try {
        const value = await this.#looks.run(question);
        this.#asked(question, undefined);
        return { value };
      } catch (error) {
        this.#failedLooks++;
        const { code, message } = asFailure(error);
        this.#asked(question, code === "UNREACHABLE" ? undefined : unanswered(message));
        if (code === "UNREACHABLE") return undefined;
        await this.#pause();
      }
    return undefined;
  }

  /** Before the next try. */
  async #pause(): Promise<void> {
    if (this.#stopped) return;
    let wake = (): void => {};
    const woken = new Promise<void>((resolve) => (wake = resolve));
    const cancel = this.#modules.timers.after(RETRY_MS, wake);
    this.#wakes.add(wake);
    await woken;
    cancel();
    this.#wakes.delete(wake);
  }

  #asked(question: object, failure: Failure | undefined): void {
    if (failure === undefined) this.#unanswered.delete(question);
    else this.#unanswered.set(question, failure);
    this.#retried.went([...this.#unanswered.values()][0]);
  }

  /** Changes that came together are published together. */
  #tellSoon(): void {
    const { clock, timers } = this.#modules;
    const waitMs = Math.max(0, this.#toldMs + SPACING_MS - clock.nowMs());
    this.#stopTelling ??= timers.after(waitMs, () => this.#tell());
  }

  #tell(): void {
    this.#stopTelling = undefined;
    const { localNetworks, nameServerFeed, clock, log } = this.#modules;
    const changed = this.#names.changed();
    if (changed.size === 0) return;
    for (const network of localNetworks.hosted()) {
      const amended = this.#containersOn(network).flatMap((endpoint) => {
        const said = changed.has(endpoint.id) ? this.#names.say(endpoint) : endpoint;
        return said === endpoint ? [] : [said];
      });
      if (amended.length === 0) continue;
      localNetworks.amend(network, amended);
      this.#toldMs = clock.nowMs();
      log.debug({ network, endpoints: amended.length }, "names or health changed");
    }
    this.told.emit();
    // After its names: on closed networks nothing else is found from then on.
    for (const endpoint of changed) {
      const inside = this.#names.inside(endpoint);
      if (inside !== undefined) nameServerFeed.inside(endpoint, inside);
    }
  }

  #containersOn(network: NetworkId): Endpoint[] {
    return containersOf(this.#modules.localNetworks.endpoints(network));
  }

  /** A network's view that was made again has two ids for a while. */
  #views(network: NetworkId): DockerNetworkId[] {
    return [...this.#modules.bindings.networks()].flatMap(([docker, bound]) =>
      bound === network ? [docker] : [],
    );
  }
}

function unanswered(why: string): Failure {
  return {
    code: "DOCKER",
    message: `the engine does not say what its containers are called: ${why}`,
    next: "see its log, `journalctl -u docker`; names and health here may be those of before",
  };
}
