import type { ContainerDetails, EngineContainer } from "../../agent/docker/engine/port.ts";
import { DockerNetworkId, type EndpointId, type NetworkId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Mac } from "../../shared/mac.ts";

/** Docker's truth: it runs here, whatever any agent says. */
export interface Container {
  readonly id: EndpointId;
  readonly network: NetworkId;
  readonly ips: readonly Ip[];
  readonly mac: Mac;
  /** Its own one, the short id, aliases. */
  readonly names: readonly string[];
  readonly startedAtMs: number;
  out: Out | undefined;
}

/** Why it is in no answer. */
export type Out = "starting" | "unhealthy" | "paused" | "stopping";

/** Each has one endpoint: its id is made of that. */
export function containerIdOf(endpoint: EndpointId): string {
  return endpoint.padEnd(64, "0");
}

/** What the engine calls a network of the cluster. */
export function shownAs(network: NetworkId): DockerNetworkId {
  return DockerNetworkId.parse(`${network}${network}`);
}

export function sandboxOf(endpoint: EndpointId): string {
  return `/var/run/docker/netns/${endpoint.slice(0, 12)}`;
}

/** As the engine's list has it. */
export function listed(container: Container): EngineContainer {
  const { id, name, state, health, connections: networks } = inspected(container);
  return {
    id,
    name,
    running: true,
    state,
    health: state === "paused" ? undefined : health,
    networks,
  };
}

export function inspected({
  id,
  network,
  names: [name = "", , ...aliases],
  startedAtMs,
  out,
}: Container): ContainerDetails {
  return {
    id: containerIdOf(id),
    name,
    hostname: "",
    checked: true,
    stopSignal: 15,
    resolvers: false,
    published: [],
    ports: [],
    labels: {},
    state: out === "paused" ? "paused" : "up",
    health: out === "starting" || out === "unhealthy" ? out : "healthy",
    startedAtMs,
    sandbox: sandboxOf(id),
    connections: [{ name: network, id: shownAs(network), endpoint: id, aliases, links: [] }],
  };
}
