import type { NetworkRecord } from "../../shared/cluster-state.ts";
import type { DockerNetworkId, NetworkId } from "../../shared/ids.ts";
import type { EngineContainer, EngineNetwork } from "./engine-port.ts";
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
