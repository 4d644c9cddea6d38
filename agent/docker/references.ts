import type { NetworkRecord } from "../../shared/cluster-state.ts";
import type { Endpoint } from "../../shared/documents.ts";
import type { DockerNetworkId, EndpointId, NetworkId } from "../../shared/ids.ts";
import type { EngineContainer, EngineNetwork } from "./engine/port.ts";
import { DRIVER } from "./views.ts";

/** Networks of the cluster that some container of this engine refers to, by the engine's id or by name. */
export function referredNetworks(
  containers: readonly EngineContainer[],
  networks: readonly NetworkRecord[],
  bound: ReadonlyMap<DockerNetworkId, NetworkId>,
): Set<NetworkId> {
  const named = new Map(networks.map(({ id, name }) => [name, id]));
  const found = containers.flatMap((container) =>
    container.networks.map(
      ({ id, name }) => (id === undefined ? undefined : bound.get(id)) ?? named.get(name),
    ),
  );
  return new Set(found.filter((network) => network !== undefined));
}

/**
 * Stopped containers that remember the id of a network which was made again since: Docker would
 * look for that id and refuse to start them (moby daemon/container_operations.go, getNetworkID).
 */
export function staleReferences(
  containers: readonly EngineContainer[],
  engine: readonly EngineNetwork[],
): { container: EngineContainer; before: DockerNetworkId; network: EngineNetwork }[] {
  const ids = new Set(engine.map(({ id }) => id));
  const views = new Map(
    engine.filter(({ driver }) => driver === DRIVER).map((view) => [view.name, view]),
  );
  return containers
    .filter(({ running }) => !running)
    .flatMap((container) =>
      container.networks.flatMap(({ id, name }) => {
        const network = views.get(name);
        return network !== undefined && id !== undefined && !ids.has(id)
          ? [{ container, before: id, network }]
          : [];
      }),
    );
}

/** A running container that names a network of ours, and is not on it as the engine shows it. */
export interface Unconnected {
  readonly container: EngineContainer;
  /** The view of that name which the engine has now. */
  readonly network: EngineNetwork;
  /** The id under which the container remembers it. */
  readonly before: DockerNetworkId;
  /**
   * `replaced`: the network was made again under the container. `gone`: its endpoint is none that we know.
   * `refused`: it got none. `address`: the engine shows another address than the tables have.
   */
  readonly why: "replaced" | "gone" | "refused" | "address";
  readonly shown: string | undefined;
}

/**
 * Docker keeps what a connection was to be also when it failed in the midst (moby daemon/container_operations.go,
 * connectToNetwork), with the address that somebody else may have by now.
 * @param endpointsOf our own endpoints of a network that the engine has.
 */
export function unconnected(
  containers: readonly EngineContainer[],
  engine: readonly EngineNetwork[],
  endpointsOf: (network: DockerNetworkId) => ReadonlyMap<EndpointId, Endpoint> | undefined,
): Unconnected[] {
  const ids = new Set(engine.map(({ id }) => id));
  const views = new Map(
    engine.filter(({ driver }) => driver === DRIVER).map((view) => [view.name, view]),
  );
  return containers
    .filter(({ state }) => state !== "down")
    .flatMap((container) =>
      container.networks.flatMap(({ name, id, endpoint, shown }): Unconnected[] => {
        const network = views.get(name);
        const own = network && endpointsOf(network.id);
        if (network === undefined || own === undefined) return [];
        const found = { container, network, before: id ?? network.id, shown };
        // Engines before 25 let two networks have one name.
        if (id !== undefined && id !== network.id && ids.has(id)) return [];
        if (id === undefined || endpoint === undefined) return [{ ...found, why: "refused" }];
        if (id !== network.id) return [{ ...found, why: "replaced" }];
        const held = own.get(endpoint);
        if (held === undefined) return [{ ...found, why: "gone" }];
        const differs = shown !== undefined && held.ipv4 !== undefined && shown !== held.ipv4;
        return differs ? [{ ...found, why: "address" }] : [];
      }),
    );
}
