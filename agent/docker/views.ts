import type { NetworkRecord } from "../../shared/cluster-state.ts";
import type { DockerNetworkId, NetworkId } from "../../shared/ids.ts";
import { familyOf } from "../../shared/ip.ts";
import type { EngineNetwork, NewEngineNetwork } from "./engine-port.ts";

/** Docker's name for us: of the plugin's socket, the network driver and the IPAM driver. */
export const DRIVER = "overlay-ts";
/** The IPAM and driver option by which a view on an engine names the cluster's network. */
export const NETWORK_OPTION = "overlay-ts.network";

/** What is to be done so that this engine shows the cluster's networks, and nothing that ended. */
export interface ViewPlan {
  readonly create: readonly { network: NetworkId; request: NewEngineNetwork }[];
  /** Of networks that the cluster no longer has. */
  readonly remove: readonly { docker: DockerNetworkId; name: string }[];
  /** Made here, and the cluster has not heard its name yet. */
  readonly tell: readonly { network: NetworkId; view: EngineNetwork }[];
  /** The name is another network's on this engine: this host does not get ours. */
  readonly conflicts: readonly { network: NetworkId; name: string; driver: string }[];
}

/**
 * Compares the cluster's networks with the engine's. `bound`: which of the engine's networks is
 * which of the cluster's; `mayHost`: what this host is allowed.
 */
export function planViews(
  networks: readonly NetworkRecord[],
  engine: readonly EngineNetwork[],
  bound: ReadonlyMap<DockerNetworkId, NetworkId>,
  mayHost: (network: NetworkId) => boolean,
): ViewPlan {
  const known = new Map(networks.map((network) => [network.id, network]));
  const views = engine.filter(({ driver }) => driver === DRIVER);
  const shown = new Set(views.flatMap(({ id }) => bound.get(id) ?? []));
  const names = new Map(engine.map((network) => [network.name, network]));
  const create: { network: NetworkId; request: NewEngineNetwork }[] = [];
  const conflicts: { network: NetworkId; name: string; driver: string }[] = [];
  for (const network of networks) {
    if (network.name === undefined || shown.has(network.id) || !mayHost(network.id)) continue;
    const taken = names.get(network.name);
    if (taken === undefined)
      create.push({ network: network.id, request: viewOf(network, network.name) });
    else conflicts.push({ network: network.id, name: network.name, driver: taken.driver });
  }
  const remove = views.flatMap(({ id, name }) => {
    const network = bound.get(id);
    return network !== undefined && !known.has(network) ? [{ docker: id, name }] : [];
  });
  const tell = views.flatMap((view) => {
    const network = known.get(bound.get(view.id) ?? ("" as NetworkId));
    return network !== undefined && network.name === undefined
      ? [{ network: network.id, view }]
      : [];
  });
  return { create, remove, tell, conflicts };
}

/** With everything of the original: Compose refuses a network of its own without its labels. */
function viewOf(network: NetworkRecord, name: string): NewEngineNetwork {
  const named = { [NETWORK_OPTION]: network.id };
  return {
    name,
    driver: DRIVER,
    internal: network.internal,
    attachable: network.attachable,
    ipv6: network.subnets.some(({ subnet }) => familyOf(subnet) === 6),
    labels: network.labels,
    options: { ...network.driverOptions, ...named },
    ipam: {
      driver: DRIVER,
      options: named,
      config: network.subnets.map(({ subnet, gateway }) => ({ subnet, gateway })),
    },
  };
}
