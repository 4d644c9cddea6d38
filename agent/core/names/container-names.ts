import type { Endpoint } from "../../../shared/documents.ts";
import type { DockerNetworkId, EndpointId } from "../../../shared/ids.ts";
import {
  applyDetails,
  applyEvent,
  applyRemembered,
  begin,
  type ContainerLife,
  differs,
  newContainer,
  outReason,
} from "./container-life.ts";
import { dockerNames, linksOf, type Named } from "./docker-names.ts";
import type {
  Attachments,
  ContainerConnection,
  ContainerDetails,
  ContainerEvent,
  ContainerId,
  EngineContainer,
  EngineEvent,
} from "./engine-containers.ts";
import type { Inside, Outside } from "./inside.ts";
import type { LeftOut } from "./left-out.ts";
import { labelledNames, type VipWish, vipWish } from "../balancing/vip-wish.ts";
import { namesOfEndpoint, withNames } from "./named-endpoint.ts";
import { RememberedSignals } from "./remembered-signals.ts";

/** What is to be asked of the engine. */
export type Look =
  | { readonly kind: "container"; readonly container: ContainerId }
  /** Who is on the network of ours. */
  | { readonly kind: "network"; readonly network: DockerNetworkId }
  /** What kind of network it is, one of Docker's own. */
  | { readonly kind: "other"; readonly network: DockerNetworkId };

/** Where an endpoint is, for Docker. */
interface Place {
  readonly container: ContainerId;
  readonly network: DockerNetworkId;
  /** Docker's name of the network. */
  readonly networkName: string;
}

/** A container whose ports are published in vain. */
export type Unpublished = Pick<ContainerDetails, "name" | "published">;

/**
 * Names and states of this engine's containers, from its events and its answers. Pure: what the engine is to be
 * asked goes out as `Look`s. Events are applied at once, so that names come and go without waiting for an answer;
 * an answer replaces them.
 */
export class ContainerNames {
  readonly #containers = new Map<ContainerId, ContainerLife>();
  /** An endpoint's id is never used again, so what was learnt of it stays true. */
  readonly #places = new Map<EndpointId, Place>();
  /** Docker does not have them any more and did not say so. */
  readonly #unlisted = new Set<EndpointId>();
  /** Docker took them out of their containers; it lists them for as long as it is at it. */
  readonly #left = new Set<EndpointId>();
  readonly #changed = new Set<EndpointId>();
  /** By connection, which each look brings anew. */
  readonly #named = new WeakMap<ContainerConnection, Named>();
  /** Of Docker's own networks, as far as asked: whether each has no way out, which never changes. */
  readonly #internal = new Map<DockerNetworkId, boolean>();
  readonly #signals = new RememberedSignals();
  readonly #isOurs: (network: string) => network is DockerNetworkId;
  readonly #wasStopping: (endpoint: EndpointId) => boolean;

  /**
   * @param isOurs whether a network of the engine is one of the cluster's.
   * @param wasStopping whether this host has said of an endpoint that it is stopping: before the agent
   *   started perhaps, by what nobody tells again.
   */
  constructor(
    isOurs: (network: string) => network is DockerNetworkId,
    wasStopping: (endpoint: EndpointId) => boolean,
  ) {
    this.#isOurs = isOurs;
    this.#wasStopping = wasStopping;
  }

  happened(event: EngineEvent): Look[] {
    if (event.kind === "container") return this.#containerEvent(event);
    if (event.kind === "network") {
      const { action, network, container } = event;
      if (!this.#isOurs(network)) return this.#otherNetwork(event);
      if (action !== "connect" || container === undefined) return [];
      const known = this.#know(container);
      const again = known.details === undefined || known.phase === "up";
      // Docker says it while it starts the container, or to a container that runs.
      if (known.phase !== "up") {
        begin(known, "starting");
        this.#touch(container);
      }
      const look = { kind: "network", network } as const;
      return again ? [look, { kind: "container", container }] : [look];
    }
    // Whether a start came to its end was perhaps not told; what else was not, the list shows.
    return [...this.#containers].flatMap(([container, { phase }]) =>
      phase === "starting" ? [{ kind: "container", container }] : [],
    );
  }

  /** What the engine remembers of signals and pauses: perhaps nobody listened. */
  remembered(events: readonly ContainerEvent[]): void {
    for (const container of this.#signals.remembered(events)) this.#recall(container);
  }

  /** Docker's Leave: long before DeleteEndpoint, and before any event. */
  left(endpoint: EndpointId): void {
    this.#left.add(endpoint);
    this.#changed.add(endpoint);
  }

  /** Docker's Join. */
  joined(endpoint: EndpointId): void {
    if (this.#left.delete(endpoint)) this.#changed.add(endpoint);
  }

  /** The answer to a look, which no event of the container overtook; undefined: there is none such. */
  looked(container: ContainerId, details: ContainerDetails | undefined): Look[] {
    if (details === undefined) {
      this.#forget(container);
      return [];
    }
    const known = this.#know(container);
    applyDetails(known, details, this.#wasStopping);
    const { connections } = details;
    for (const { endpoint, id, name } of connections)
      if (endpoint !== undefined && id !== undefined && this.#isOurs(id))
        this.#place(endpoint, { container, network: id, networkName: name });
    this.#recall(container);
    this.#touch(container);
    return connections.flatMap(({ id }): Look[] =>
      id === undefined || this.#isOurs(id) || this.#internal.has(id)
        ? []
        : [{ kind: "other", network: id }],
    );
  }

  /** The answer to a look at one of Docker's own networks. */
  lookedOther(network: DockerNetworkId, { internal }: Pick<Attachments, "internal">): void {
    this.#internal.set(network, internal);
    for (const [endpoint, { container }] of this.#places)
      if (this.#containers.get(container)?.details?.connections.some(({ id }) => id === network))
        this.#changed.add(endpoint);
  }

  /**
   * Who is on a network of the cluster, all of the engine's networks that are it together. `asked`: our
   * endpoints there when it was asked.
   */
  attached(
    views: readonly (Attachments & { readonly network: DockerNetworkId })[],
    asked: readonly EndpointId[],
  ): Look[] {
    const looks: Look[] = [];
    const found = new Set<EndpointId>();
    for (const { network, name, endpoints } of views)
      for (const { container, endpoint } of endpoints) {
        found.add(endpoint);
        if (this.#unlisted.delete(endpoint)) this.#changed.add(endpoint);
        if (container === undefined || this.#places.has(endpoint)) continue;
        this.#place(endpoint, { container, network, networkName: name });
        if (this.#know(container).details === undefined)
          looks.push({ kind: "container", container });
      }
    for (const endpoint of asked)
      if (!found.has(endpoint) && !this.#unlisted.has(endpoint)) {
        this.#unlisted.add(endpoint);
        this.#changed.add(endpoint);
      }
    return looks;
  }

  /**
   * The engine's list, compared with what is known: what differs is looked at. A list may be a step
   * behind the events, so nothing is believed that it says. `own`: our endpoints, and the engine's
   * networks that each may be on.
   */
  listed(
    containers: readonly EngineContainer[],
    own: ReadonlyMap<Endpoint, readonly DockerNetworkId[]>,
  ): Look[] {
    const ours = new Set([...own.values()].flat());
    const ids = new Set([...own.keys()].map(({ id }) => id));
    this.#forgetEndpoints(ids);
    // Also what was lost on our side is said again.
    for (const id of ids) this.#changed.add(id);
    const looks: Look[] = [];
    const running = new Set<EndpointId>();
    const listed = new Set<ContainerId>();
    for (const container of containers) {
      listed.add(container.id);
      const here = container.networks.filter(({ id }) => id !== undefined && ours.has(id));
      if (here.length === 0) continue;
      for (const { endpoint } of here) if (endpoint !== undefined) running.add(endpoint);
      if (
        differs(
          this.#containers.get(container.id),
          container,
          here.flatMap(({ endpoint }) => endpoint ?? []),
        )
      )
        looks.push({ kind: "container", container: container.id });
    }
    for (const container of this.#containers.keys())
      if (!listed.has(container)) looks.push({ kind: "container", container });
    const unsure = [...own].filter(
      ([endpoint]) =>
        this.say(endpoint).names !== undefined &&
        !running.has(endpoint.id) &&
        this.#of(endpoint.id)?.phase !== "starting",
    );
    // Listed again: Docker was not asked, or had not said.
    const back = [...running].some((endpoint) => this.#unlisted.has(endpoint));
    const networks = new Set([
      ...unsure.flatMap(([, networks]) => networks),
      ...(back ? ours : []),
    ]);
    for (const network of networks) looks.push({ kind: "network", network });
    return looks;
  }

  /**
   * What is to be said of an endpoint: the very same object when nothing changes. One that is not, or
   * no longer, a running container's has no names.
   */
  say(endpoint: Endpoint): Endpoint {
    const { id } = endpoint;
    if (this.#left.has(id) || this.#unlisted.has(id)) return withNames(endpoint, undefined);
    const known = this.#of(id);
    // Nothing is told of names before it is known whether there is a health check.
    if (known?.details === undefined) return endpoint;
    const named = this.#names(id, known.details)?.names ?? namesOfEndpoint(endpoint);
    if (known.phase === "down" || named === undefined) return withNames(endpoint, undefined);
    const { ports } = known.details;
    return withNames(endpoint, { names: named, out: outReason(known), ports });
  }

  /** Endpoints of which something else may be to be said since this was last asked. */
  changed(): ReadonlySet<EndpointId> {
    const changed = new Set(this.#changed);
    this.#changed.clear();
    return changed;
  }

  /** What an endpoint's container alone sees; undefined: it was not looked at yet. */
  inside(endpoint: EndpointId): Inside | undefined {
    const details = this.#of(endpoint)?.details;
    const connection = details && this.#connection(endpoint, details);
    if (connection === undefined) return undefined;
    return { links: linksOf(connection.links), outside: this.#outside(details!) };
  }

  /**
   * What containers that run ask for, on which of our networks.
   * @param isForAll every service of the network has a virtual address
   */
  vipWishes(
    isForAll: (network: DockerNetworkId) => boolean,
  ): { readonly network: DockerNetworkId; readonly wish: VipWish }[] {
    return [...this.#places].flatMap(([endpoint, { container, network }]) => {
      const known = this.#containers.get(container);
      const details =
        known?.phase === "up" && !this.#left.has(endpoint) ? known.details : undefined;
      const connection = details && this.#connection(endpoint, details);
      const wish = connection && vipWish(details, connection, isForAll(network));
      return wish === undefined ? [] : [{ network, wish }];
    });
  }

  /** Of this engine's endpoints: what of their names is no name, or is beyond the bound. */
  leftOut(): LeftOut[] {
    return [...this.#places].flatMap(([endpoint, { container, networkName }]) => {
      const details = this.#containers.get(container)?.details;
      const named = details && this.#names(endpoint, details);
      if (named === undefined) return [];
      const of = { container: details!.name, network: networkName };
      return (["no-name", "too-many"] as const).flatMap((why) => {
        const names = why === "no-name" ? named.noNames : named.tooMany;
        return names.length === 0 ? [] : [{ ...of, names, count: names.length, why }];
      });
    });
  }

  /**
   * Containers whose `-p` publishes nothing: all their networks have no way out, and so none in. Docker does not
   * say it, of its own bridges neither. @param isInternal of a network of ours
   */
  unpublished(isInternal: (network: DockerNetworkId) => boolean): Unpublished[] {
    return [...this.#containers.values()].flatMap(({ phase, details }) => {
      if (phase !== "up" || details === undefined || details.published.length === 0) return [];
      const { name, published, connections } = details;
      const ours = connections.flatMap(({ id }) =>
        id !== undefined && this.#isOurs(id) ? id : [],
      );
      const shut = ours.length > 0 && ours.every(isInternal);
      return shut && this.#outside(details)?.wayOut === false ? [{ name, published }] : [];
    });
  }

  #otherNetwork({ action, network, container }: Extract<EngineEvent, { kind: "network" }>): Look[] {
    if (action === "destroy") this.#internal.delete(network as DockerNetworkId);
    const changed = action === "connect" || action === "disconnect";
    if (!changed || container === undefined) return [];
    return this.#containers.get(container)?.phase === "up"
      ? [{ kind: "container", container }]
      : [];
  }

  /** Of its present life. */
  #recall(container: ContainerId): void {
    const known = this.#containers.get(container);
    if (known?.details === undefined) return;
    const { startedAtMs } = known.details;
    applyRemembered(known, startedAtMs, this.#signals.take(container));
    this.#touch(container);
  }

  #containerEvent(event: ContainerEvent): Look[] {
    const { action, container } = event;
    const look: Look[] = [{ kind: "container", container }];
    if (action === "create") {
      this.#know(container);
      return look;
    }
    if (action === "destroy") {
      this.#forget(container);
      return [];
    }
    const known = this.#containers.get(container);
    // Of other networks, or created while nobody listened: `connect` and the list tell of it, but of no signal.
    if (known === undefined) {
      this.#signals.heard(event);
      return [];
    }
    this.#touch(container);
    return applyEvent(known, event) ? look : [];
  }

  #connection(
    endpoint: EndpointId,
    { connections }: ContainerDetails,
  ): ContainerConnection | undefined {
    const place = this.#places.get(endpoint);
    if (place === undefined) return undefined;
    return (
      connections.find((held) => held.endpoint === endpoint) ??
      // Of a connection to a container that runs the aliases come with its endpoint.
      (this.#containers.get(place.container)?.phase === "up"
        ? undefined
        : connections.find((held) => refersTo(held, place)))
    );
  }

  #outside({ id: container, connections, resolvers }: ContainerDetails): Outside | undefined {
    const ours = [...this.#places.values()].filter((place) => place.container === container);
    const others: string[] = [];
    let wayOut = false;
    for (const held of connections) {
      if (held.id !== undefined && this.#isOurs(held.id)) continue;
      if (ours.some((place) => refersTo(held, place))) continue;
      const internal = held.id && this.#internal.get(held.id);
      if (internal === undefined) return undefined;
      others.push(held.name);
      wayOut ||= !internal;
    }
    return { wayOut, resolvers, others };
  }

  #names(endpoint: EndpointId, details: ContainerDetails): Named | undefined {
    const connection = this.#connection(endpoint, details);
    if (connection === undefined) return undefined;
    let named = this.#named.get(connection);
    if (named === undefined) {
      named = dockerNames(details, [...connection.aliases, ...labelledNames(details, connection)]);
      this.#named.set(connection, named);
    }
    return named;
  }

  #of(endpoint: EndpointId): ContainerLife | undefined {
    const place = this.#places.get(endpoint);
    return place && this.#containers.get(place.container);
  }

  #know(container: ContainerId): ContainerLife {
    let known = this.#containers.get(container);
    if (known === undefined) {
      known = newContainer();
      this.#containers.set(container, known);
    }
    return known;
  }

  #place(endpoint: EndpointId, place: Place): void {
    this.#places.set(endpoint, place);
    this.#changed.add(endpoint);
  }

  #touch(container: ContainerId): void {
    for (const [endpoint, place] of this.#places)
      if (place.container === container) this.#changed.add(endpoint);
  }

  #forget(container: ContainerId): void {
    this.#touch(container);
    this.#containers.delete(container);
    this.#signals.take(container);
  }

  #forgetEndpoints(held: ReadonlySet<EndpointId>): void {
    for (const endpoint of this.#places.keys())
      if (!held.has(endpoint)) this.#places.delete(endpoint);
    for (const endpoint of this.#unlisted) if (!held.has(endpoint)) this.#unlisted.delete(endpoint);
  }
}

/** As the user wrote it before the first start, the network may be any name or id of it. */
function refersTo({ id, name }: ContainerConnection, { network, networkName }: Place): boolean {
  return id === undefined ? name === networkName || network.startsWith(name) : id === network;
}
