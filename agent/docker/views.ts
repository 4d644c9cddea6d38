import type { NetworkRecord } from "../../shared/cluster-state.ts";
import type { DockerNetworkId, NetworkId } from "../../shared/ids.ts";
import { familyOf } from "../../shared/ip.ts";
import type { EngineNetwork, NewEngineNetwork } from "./engine/port.ts";

/** Docker's name for us: of the plugin's socket, the network driver and the IPAM driver. */
export const DRIVER = "overlay-ts";
/**
 * By its VNI, under Swarm's option for it, a view on an engine names the cluster's network. Any other
 * option that the original has not makes Compose 1 refuse the view (compose/network.py,
 * check_remote_network_config and OPTS_EXCEPTIONS); an IPAM option does too.
 */
export const VNI_OPTION = "com.docker.network.driver.overlay.vxlanid_list";

/** Steps that make this engine show exactly the cluster's networks. */
export interface ViewPlan {
  readonly create: readonly { network: NetworkId; request: NewEngineNetwork }[];
  /** Of networks that the cluster no longer has. */
  readonly remove: readonly { docker: DockerNetworkId; name: string }[];
  /** Made here, and the cluster has not heard its name yet. */
  readonly tell: readonly { network: NetworkId; view: EngineNetwork }[];
  /** The name is another network's on this engine: this host does not get ours. */
  readonly conflicts: readonly { network: NetworkId; name: string; driver: string }[];
  /** An IPv6 subnet without `--ipv6`: Docker shows it, gives it to nobody, and does not say so, as with its bridges. */
  readonly unheeded: readonly { network: NetworkId; name: string; subnets: readonly string[] }[];
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
  const unheeded = views.flatMap((view) => {
    const network = known.get(bound.get(view.id) ?? ("" as NetworkId));
    const subnets = network === undefined ? [] : unheededSubnets(network, view);
    return network === undefined || subnets.length === 0
      ? []
      : [{ network: network.id, name: view.name, subnets }];
  });
  return { create, remove, tell, conflicts, unheeded };
}

export function unheededSubnets({ subnets }: NetworkRecord, view: EngineNetwork): string[] {
  if (subnets.some(({ subnet }) => familyOf(subnet) === 6)) return [];
  return view.subnets.filter((subnet) => subnet.includes(":"));
}

/**
 * With everything of the original: Compose refuses a network of its own without its labels. `unheeded`: subnets that
 * only this engine's user gave.
 */
export function viewOf(
  network: NetworkRecord,
  name: string,
  unheeded: readonly string[] = [],
): NewEngineNetwork {
  return {
    name,
    driver: DRIVER,
    internal: network.internal,
    attachable: network.attachable,
    ipv6: network.subnets.some(({ subnet }) => familyOf(subnet) === 6),
    labels: network.labels,
    options: { ...network.driverOptions, [VNI_OPTION]: String(network.vni) },
    ipam: {
      driver: DRIVER,
      options: {},
      config: [
        ...network.subnets.map(({ subnet, gateway }) => ({ subnet, gateway })),
        ...unheeded.map((subnet) => ({ subnet })),
      ],
    },
  };
}

/** Which of the cluster's networks an engine's network shows, by what the engine says of it. */
export function shownNetwork(
  { id, name, options, subnets }: EngineNetwork,
  networks: readonly NetworkRecord[],
): NetworkRecord | undefined {
  return networks.find(
    (network) =>
      network.createdAs === id ||
      // A VNI alone may be of a cluster that this host has left.
      (String(network.vni) === options[VNI_OPTION] &&
        network.name === name &&
        network.subnets.every(({ subnet }) => subnets.includes(subnet))),
  );
}
