import { isDeepStrictEqual } from "node:util";
import { BOUNDS } from "../../shared/bounds.ts";
import { canonicalName, isName } from "../../shared/dns-name.ts";
import type { Endpoint } from "../../shared/documents.ts";
import type { DockerNetworkId, EndpointId } from "../../shared/ids.ts";
import type { OutReason } from "../core/names.ts";
import type {
  Attachments,
  ContainerConnection,
  ContainerDetails,
  ContainerId,
  EngineContainer,
  EngineEvent,
  Health,
} from "./engine-port.ts";
import { HEALTHS } from "./engine-port.ts";
import { KILL, TERM } from "./signals.ts";

/** Docker's short id is a name too (moby pkg/stringid, TruncateID). */
const SHORT_ID_LENGTH = 12;
/** `docker stop` may be told to wait for longer than the container is set to. */
const LEAST_STOP_MS = 10_000;
/** Between the last signal and the end. */
const STOP_SLACK_MS = 5000;

/** What is to be asked of the engine. */
export type Look =
  | { readonly kind: "container"; readonly container: ContainerId }
  /** Who is on the network. */
  | { readonly kind: "network"; readonly network: DockerNetworkId };

/** Where an endpoint is, for Docker. */
interface Place {
  readonly container: ContainerId;
  readonly network: DockerNetworkId;
  /** Docker's name of the network. */
  readonly networkName: string;
}

interface Known {
  /** Undefined: not looked at yet. */
  details: ContainerDetails | undefined;
  /** `starting`: its networks are connected, its process does not run yet. */
  phase: "down" | "starting" | "up";
  paused: boolean;
  /** Undefined: without a health check. */
  health: Health | undefined;
  /** It was told to stop, at `toldMs` by the engine's clock; that counts until then, by ours. */
  stopping: { readonly untilMs: number; readonly toldMs: number } | undefined;
}

/**
 * What this engine's containers are called and how they are, as far as events and looks told. Pure: the
 * time comes in, what to look at goes out. Events are applied at once, so that names come and go
 * without waiting for an answer; what a look says replaces them.
 */
export class ContainerNames {
  readonly #containers = new Map<ContainerId, Known>();
  /** An endpoint's id is never used again, so what was learnt of it stays true. */
  readonly #places = new Map<EndpointId, Place>();
  /** Docker does not have them any more and did not say so. */
  readonly #unlisted = new Set<EndpointId>();
  /** Docker took them out of their containers; it lists them for as long as it is at it. */
  readonly #left = new Set<EndpointId>();
  readonly #changed = new Set<EndpointId>();
  /** By connection, which each look brings anew. */
  readonly #named = new WeakMap<ContainerConnection, Named>();
  readonly #isOurs: (network: string) => network is DockerNetworkId;

  /** `isOurs`: whether a network of the engine is one of the cluster's. */
  constructor(isOurs: (network: string) => network is DockerNetworkId) {
    this.#isOurs = isOurs;
  }

  happened(event: EngineEvent, nowMs: number): Look[] {
    if (event.kind === "container") return this.#containerEvent(event, nowMs);
    if (event.kind === "network") {
      const { action, network, container } = event;
      if (action !== "connect" || container === undefined || !this.#isOurs(network)) return [];
      const known = this.#know(container);
      const again = known.details === undefined || known.phase === "up";
      // Docker says it while it starts the container, or to a container that runs.
      if (known.phase !== "up") this.#begin(container, known, "starting");
      const look = { kind: "network", network } as const;
      return again ? [look, { kind: "container", container }] : [look];
    }
    // Whether a start came to its end was perhaps not told; what else was not, the list shows.
    return [...this.#containers].flatMap(([container, { phase }]) =>
      phase === "starting" ? [{ kind: "container", container }] : [],
    );
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
  looked(container: ContainerId, details: ContainerDetails | undefined): void {
    if (details === undefined) {
      this.#forget(container);
      return;
    }
    const known = this.#know(container);
    const { startedAtMs, state, health, connections } = details;
    known.details = details;
    known.phase = state === "down" ? "down" : "up";
    known.paused = state === "paused";
    known.health = state === "down" ? undefined : health;
    // That was in another life.
    if (known.stopping !== undefined && known.stopping.toldMs < startedAtMs)
      known.stopping = undefined;
    for (const { endpoint, id, name } of connections)
      if (endpoint !== undefined && id !== undefined && this.#isOurs(id))
        this.#place(endpoint, { container, network: id, networkName: name });
    this.#touch(container);
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
        this.#differs(
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
    if (this.#left.has(id) || this.#unlisted.has(id)) return said(endpoint, undefined, undefined);
    const known = this.#of(id);
    // Nothing is told of names before it is known whether there is a health check.
    if (known?.details === undefined) return endpoint;
    if (known.phase === "down") return said(endpoint, undefined, undefined);
    const names = this.#names(id, known.details)?.names ?? endpoint.names;
    return said(endpoint, names, outReason(known));
  }

  /** Endpoints of which something else may be to be said since this was last asked. */
  changed(): ReadonlySet<EndpointId> {
    const changed = new Set(this.#changed);
    this.#changed.clear();
    return changed;
  }

  /** Who was to stop by now and did not is back. */
  expire(nowMs: number): void {
    for (const [container, known] of this.#containers)
      if (known.stopping !== undefined && known.stopping.untilMs <= nowMs) {
        known.stopping = undefined;
        this.#touch(container);
      }
  }

  /** When there is something to `expire`. */
  nextMs(): number | undefined {
    const all = [...this.#containers.values()].flatMap(({ stopping }) => stopping?.untilMs ?? []);
    return all.length === 0 ? undefined : Math.min(...all);
  }

  /** Of this engine's endpoints: what of their names is no name, or is beyond the bound. */
  leftOut(): number {
    let count = 0;
    for (const [endpoint, { container }] of this.#places) {
      const details = this.#containers.get(container)?.details;
      count += (details && this.#names(endpoint, details)?.leftOut) ?? 0;
    }
    return count;
  }

  #containerEvent(
    { action, container, attributes, atMs }: Extract<EngineEvent, { kind: "container" }>,
    nowMs: number,
  ): Look[] {
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
    // Of other networks, or created while nobody listened: `connect` and the list tell of it.
    if (known === undefined) return [];
    this.#touch(container);
    switch (action) {
      case "start":
        this.#begin(container, known, "up");
        // What was asked of it while it was down was told by no event.
        return look;
      case "rename":
        return look;
      case "pause":
        known.paused = true;
        // Its checks end with it (moby daemon/health.go, stopHealthchecks).
        if (known.health !== undefined) known.health = "unhealthy";
        return [];
      case "unpause":
        known.paused = false;
        return look;
      case "kill":
        if (isStop(known, Number(attributes["signal"])))
          known.stopping = { untilMs: nowMs + stopMs(known), toldMs: atMs };
        return [];
      case "die":
        // Engines since 25 say it late: a container that is started again may be ahead of it.
        if (known.phase === "up") known.phase = "down";
        return [];
      default: {
        const said = /^health_status: (\w+)$/.exec(action)?.[1];
        const health = HEALTHS.find((one) => one === said);
        if (health !== undefined && known.phase === "up") known.health = health;
        return [];
      }
    }
  }

  /** A life of its own: nothing of the one before is true of it. */
  #begin(container: ContainerId, known: Known, phase: "starting" | "up"): void {
    known.phase = phase;
    known.paused = false;
    known.stopping = undefined;
    known.health = known.details && firstHealth(known.details);
    this.#touch(container);
  }

  #differs(container: EngineContainer, endpoints: readonly EndpointId[]): boolean {
    const known = this.#containers.get(container.id);
    const up = container.state !== "down";
    if (known?.details === undefined) return up;
    if (!up) return known.phase === "up";
    const { name, connections } = known.details;
    return (
      known.phase !== "up" ||
      container.name !== name ||
      (container.state === "paused") !== known.paused ||
      (!known.paused && container.health !== known.health) ||
      endpoints.some((id) => !connections.some(({ endpoint }) => endpoint === id))
    );
  }

  #names(endpoint: EndpointId, details: ContainerDetails): Named | undefined {
    const place = this.#places.get(endpoint);
    if (place === undefined) return undefined;
    const { connections } = details;
    const connection =
      connections.find((held) => held.endpoint === endpoint) ??
      // Of a connection to a container that runs the aliases come with its endpoint.
      (this.#containers.get(place.container)?.phase === "up"
        ? undefined
        : connections.find((held) => refersTo(held, place)));
    if (connection === undefined) return undefined;
    let named = this.#named.get(connection);
    if (named === undefined) {
      named = namesOf(details, connection.aliases);
      this.#named.set(connection, named);
    }
    return named;
  }

  #of(endpoint: EndpointId): Known | undefined {
    const place = this.#places.get(endpoint);
    return place && this.#containers.get(place.container);
  }

  #know(container: ContainerId): Known {
    let known = this.#containers.get(container);
    if (known === undefined) {
      known = {
        details: undefined,
        phase: "down",
        paused: false,
        health: undefined,
        stopping: undefined,
      };
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
  }

  #forgetEndpoints(held: ReadonlySet<EndpointId>): void {
    for (const endpoint of this.#places.keys())
      if (!held.has(endpoint)) this.#places.delete(endpoint);
    for (const endpoint of this.#unlisted) if (!held.has(endpoint)) this.#unlisted.delete(endpoint);
  }
}

interface Named {
  readonly names: string[];
  readonly leftOut: number;
}

/**
 * What a container is found by on one network, its own name first: as Docker's resolver has it
 * (moby daemon/network.go, buildEndpointDNSNames, and before 25 updateNetworkConfig).
 */
export function namesOf(
  { id, name, hostname }: Pick<ContainerDetails, "id" | "name" | "hostname">,
  aliases: readonly string[],
): Named {
  const own = [name, id.slice(0, SHORT_ID_LENGTH), hostname];
  const all = new Set([...own, ...aliases].filter((text) => text !== "").map(canonicalName));
  const names = [...all].filter(isName).slice(0, BOUNDS.endpointNames);
  return { names, leftOut: all.size - names.length };
}

/** As the user wrote it before the first start, the network may be any name or id of it. */
function refersTo({ id, name }: ContainerConnection, { network, networkName }: Place): boolean {
  return id === undefined ? name === networkName || network.startsWith(name) : id === network;
}

/** From the start on, until the first check says otherwise. */
function firstHealth({ checked }: ContainerDetails): Health | undefined {
  return checked ? "starting" : undefined;
}

function isStop({ details }: Known, signal: number): boolean {
  return signal === KILL || signal === (details?.stopSignal ?? TERM);
}

function stopMs({ details }: Known): number {
  return Math.max(details?.stopTimeoutMs ?? 0, LEAST_STOP_MS) + STOP_SLACK_MS;
}

function outReason({ paused, health, stopping }: Known): OutReason | undefined {
  if (stopping !== undefined) return "stopping";
  if (paused) return "paused";
  return health === "healthy" ? undefined : health;
}

function said(
  endpoint: Endpoint,
  names: readonly string[] | undefined,
  out: OutReason | undefined,
): Endpoint {
  const reason = names === undefined ? undefined : out;
  if (reason === endpoint.out && isDeepStrictEqual(names, endpoint.names)) return endpoint;
  const { names: _, out: __, ...rest } = endpoint;
  return {
    ...rest,
    ...(names === undefined ? {} : { names: [...names] }),
    ...(reason === undefined ? {} : { out: reason }),
  };
}
