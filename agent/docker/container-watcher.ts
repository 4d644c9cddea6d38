import { setTimeout as delay } from "node:timers/promises";
import type { Endpoint } from "../shared/documents.ts";
import { asFailure, OverlayError } from "../shared/errors.ts";
import type { DockerNetworkId, EndpointId, NetworkId } from "../shared/ids.ts";
import type { Log } from "../shared/ports.ts";
import { AtMost } from "./at-most.ts";
import type { Bindings } from "./bindings.ts";
import type {
  Attachments,
  ContainerDetails,
  ContainerId,
  DockerEngine,
  EngineContainer,
  EngineEvent,
} from "./docker/engine-port.ts";
import { ContainerNames, type Look } from "./docker/names.ts";
import { containersOf } from "./forgetting.ts";
import type { Hosting } from "./hosting.ts";
import type { Resolving } from "./resolving.ts";

/** Docker answers for a container when it is done with starting it: many may be waited for at once. */
const LOOKS = 64;
const RETRY_MS = 1000;
/** Each change is a message to every host: what comes within this time after one shares the next. */
const SPACING_MS = 20;

export interface NamingModules {
  readonly engine: Pick<DockerEngine, "inspect" | "attachments">;
  readonly bindings: Pick<Bindings, "network" | "networks">;
  readonly hosting: Pick<Hosting, "hosted" | "endpoints" | "amend">;
  /** Where endpoints of ours are: Docker's Join says it too, but a database may be lost. */
  readonly resolving: Pick<Resolving, "found">;
  readonly log: Log;
}

/** For `status`. */
export interface NamingStatus {
  /** Names of containers here that nobody can ask for: no names, or too many. */
  readonly leftOut: number;
  /** Questions to the engine that it did not answer, since the start. */
  readonly failedLooks: number;
}

/**
 * Says in the own documents what this host's containers are called, and whether they are to be given as
 * answers. Events are a hint that counts at once, looks and the list put right what they did not tell.
 */
export class Naming {
  readonly #modules: NamingModules;
  readonly #names: ContainerNames;
  readonly #stopping = new AbortController();
  readonly #looks = new AtMost(LOOKS);
  /** Containers that are asked for, and whether an event came since. */
  readonly #asking = new Map<ContainerId, { overtaken: boolean }>();
  /** Networks that are asked for, and whether to ask again. */
  readonly #askingNetworks = new Map<NetworkId, { again: boolean }>();
  #failedLooks = 0;
  #telling: NodeJS.Timeout | undefined;
  #toldMs = -Infinity;
  #expiry: NodeJS.Timeout | undefined;

  constructor(modules: NamingModules) {
    this.#modules = modules;
    this.#names = new ContainerNames(
      (network): network is DockerNetworkId =>
        modules.bindings.network(network as DockerNetworkId) !== undefined,
    );
  }

  /** In the order of Docker's events. */
  happened(event: EngineEvent): void {
    // Events that were lost may have been of any.
    for (const [container, asking] of this.#asking)
      if (event.kind === "listening" || event.container === container) asking.overtaken = true;
    this.#follow(this.#names.happened(event, performance.now()));
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
    const { hosting } = this.#modules;
    const own = new Map<Endpoint, readonly DockerNetworkId[]>();
    for (const network of hosting.hosted()) {
      const views = this.#views(network);
      for (const endpoint of this.#containersOn(network)) own.set(endpoint, views);
    }
    this.#follow(this.#names.listed(containers, own));
  }

  status(): NamingStatus {
    return { leftOut: this.#names.leftOut(), failedLooks: this.#failedLooks };
  }

  /** What is said stays said. */
  stop(): void {
    this.#stopping.abort();
    clearTimeout(this.#telling);
    clearTimeout(this.#expiry);
  }

  #follow(looks: readonly Look[]): void {
    if (this.#stopping.signal.aborted) return;
    for (const look of looks)
      if (look.kind === "container") void this.#lookAt(look.container);
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
    if (!asking.overtaken) {
      this.#names.looked(container, answer.value);
      if (answer.value !== undefined) this.#locate(answer.value);
    }
    this.#follow(asking.overtaken ? [{ kind: "container", container }] : []);
  }

  #locate({ sandbox, connections }: ContainerDetails): void {
    const { bindings, resolving } = this.#modules;
    for (const { id, endpoint } of connections) {
      const network = id && bindings.network(id);
      if (sandbox !== undefined && endpoint !== undefined && network !== undefined)
        resolving.found({ endpoint, network, path: sandbox });
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
    } while (mine.again && !this.#stopping.signal.aborted);
    this.#askingNetworks.delete(network);
  }

  async #attachments(
    network: DockerNetworkId,
  ): Promise<Attachments & { network: DockerNetworkId }> {
    const { engine } = this.#modules;
    const found = await engine.attachments(network).catch((error: unknown) => {
      if (error instanceof OverlayError && error.code === "NOT_FOUND")
        return { name: "", endpoints: [] };
      throw error;
    });
    return { ...found, network };
  }

  /**
   * Undefined: no answer. An engine that is away is listed when it is back, and what differs then is
   * looked at; one that is slow is asked until it answers.
   */
  async #ask<T>(question: () => Promise<T>): Promise<{ readonly value: T } | undefined> {
    const { signal } = this.#stopping;
    while (!signal.aborted)
      try {
        return { value: await this.#looks.run(question) };
      } catch (error) {
        this.#failedLooks++;
        const { code, message } = asFailure(error);
        this.#modules.log.debug({ code, message }, "Docker does not say what is asked of it");
        if (code === "UNREACHABLE") return undefined;
        await delay(RETRY_MS, undefined, { signal }).catch(() => {});
      }
    return undefined;
  }

  /** What came in one go is said in one go. */
  #tellSoon(): void {
    if (this.#telling !== undefined) return;
    const waitMs = Math.max(0, this.#toldMs + SPACING_MS - performance.now());
    this.#telling = setTimeout(() => this.#tell(), waitMs);
  }

  #tell(): void {
    this.#telling = undefined;
    const { hosting, log } = this.#modules;
    const changed = this.#names.changed();
    this.#expireLater();
    if (changed.size === 0) return;
    for (const network of hosting.hosted()) {
      const amended = this.#containersOn(network).flatMap((endpoint) => {
        const said = changed.has(endpoint.id) ? this.#names.say(endpoint) : endpoint;
        return said === endpoint ? [] : [said];
      });
      if (amended.length === 0) continue;
      hosting.amend(network, amended);
      this.#toldMs = performance.now();
      log.debug({ network, endpoints: amended.length }, "names or health changed");
    }
  }

  #expireLater(): void {
    clearTimeout(this.#expiry);
    const nextMs = this.#names.nextMs();
    if (nextMs === undefined) return;
    this.#expiry = setTimeout(
      () => {
        this.#names.expire(performance.now());
        this.#follow([]);
      },
      Math.max(1, nextMs - performance.now()),
    );
  }

  #containersOn(network: NetworkId): Endpoint[] {
    return containersOf(this.#modules.hosting.endpoints(network));
  }

  /** A network's view that was made again has two ids for a while. */
  #views(network: NetworkId): DockerNetworkId[] {
    return [...this.#modules.bindings.networks()].flatMap(([docker, bound]) =>
      bound === network ? [docker] : [],
    );
  }
}
