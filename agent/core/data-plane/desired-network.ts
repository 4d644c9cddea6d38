import type {
  NetworkRecord,
  NodeRecord,
  Ports,
  SecurityClass,
} from "../../../shared/cluster-state.ts";
import {
  addressesOf,
  claimedAddresses,
  type Endpoint,
  type NetworkDocument,
} from "../../../shared/documents.ts";
import type { NetworkId, NodeId } from "../../../shared/ids.ts";
import { cidrContains, type Ip, prefixLength } from "../../../shared/ip.ts";
import type {
  Addressed,
  DesiredNetwork,
  InterfaceAddress,
  LocalPort,
  RemoteGroup,
} from "./kernel-state.ts";
import { type Reading, readNetwork } from "./read-network.ts";
import { admittedHosts, directHosts } from "../tables/admitted.ts";
import { isUsedHere, saysOn, takesPart } from "../tables/hosts.ts";
import { recordOf } from "../../../shared/records.ts";
import type { Tables } from "../tables/tables.ts";

export function udpPortOf(ports: Ports, encryption: SecurityClass): number {
  switch (encryption) {
    case "none":
      return ports.vxlanPlain;
    case "wireguard":
      return ports.vxlanWireguard;
    case "ipsec":
      return ports.vxlanIpsec;
  }
}

/** Where the VXLAN packets of a security class go: our end, and those of the hosts that have a path. */
export interface Paths {
  readonly encryption: SecurityClass;
  readonly local: Ip;
  readonly remote: ReadonlyMap<NodeId, Ip>;
}

/**
 * In clear: all members, by what the controller signed. Undefined: this host is none.
 * @param sendsFrom this host changes over, and its own end is still there
 */
export function plainPaths(tables: Tables, self: NodeId, sendsFrom?: Ip): Paths | undefined {
  const { state } = tables;
  const hosts = directHosts(state);
  const kept = plainPathsOf.get(tables);
  if (kept !== undefined && kept.hosts === hosts && kept.self === self && kept.from === sendsFrom)
    return kept.paths;
  const remote = vtepsOf(hosts);
  const local = remote.get(self) && (sendsFrom ?? remote.get(self));
  remote.delete(self);
  const paths: Paths | undefined = local && { encryption: "none", local, remote };
  plainPathsOf.set(tables, { hosts, self, from: sendsFrom, paths });
  return paths;
}

/** They follow from the hosts alone. */
const plainPathsOf = new WeakMap<
  Tables,
  {
    readonly hosts: readonly NodeRecord[];
    readonly self: NodeId;
    readonly from: Ip | undefined;
    readonly paths: Paths | undefined;
  }
>();

/**
 * What the kernel of `self` should hold for the network: a function of the tables, and of the paths of
 * its class: no key, no path. Undefined: the cluster has no such network, or this host is not on it: no
 * container here, and its own document does not say that one is coming or has just left.
 */
export function desired(
  tables: Tables,
  self: NodeId,
  network: NetworkId,
  paths: Paths | undefined,
): DesiredNetwork | undefined {
  const record = recordOf(tables.state, network);
  if (tables.state === undefined || record === undefined) return undefined;
  if (!isUsedHere(tables, self, network)) return undefined;
  if (paths?.encryption !== record.encryption) return undefined;
  const ports = portsOf(tables, self, record);
  return {
    network,
    vni: record.vni,
    encryption: record.encryption,
    udpPort: udpPortOf(tables.state.settings.ports, record.encryption),
    localVtep: paths.local,
    mtuBytes: record.mtuBytes,
    gateways: record.subnets.map(({ gateway, subnet }) => ({
      ip: gateway,
      prefixLength: prefixLength(subnet),
    })),
    multicast: record.multicast,
    ports,
    remotes: remotesOf(readNetwork(tables, record), self, paths, ports),
    flood: record.multicast
      ? [...paths.remote].flatMap(([node, vtep]) =>
          takesPart(tables, node, network) ? [vtep] : [],
        )
      : [],
  };
}

/** What runs here has its port whatever the rules say: they decide whom others believe. */
function portsOf(tables: Tables, self: NodeId, record: NetworkRecord): readonly LocalPort[] {
  const own = tables.documents(record.id).get(self);
  if (own === undefined) return [];
  const kept = portLists.get(own);
  if (kept?.record === record) return kept.ports;
  const ports = own.endpoints.map((endpoint) => portOf(endpoint, record));
  portLists.set(own, { record, ports });
  return ports;
}

/** Documents and endpoints are never changed, only replaced, and so are ports: a plan tells by that what is another. */
const portLists = new WeakMap<
  NetworkDocument,
  { readonly record: NetworkRecord; readonly ports: readonly LocalPort[] }
>();
const onePorts = new WeakMap<
  Endpoint,
  { readonly record: NetworkRecord; readonly port: LocalPort }
>();

function portOf(endpoint: Endpoint, record: NetworkRecord): LocalPort {
  const kept = onePorts.get(endpoint);
  if (kept?.record === record) return kept.port;
  const { id, mac, role } = endpoint;
  const ends =
    role === "host" ? { host: onSubnets(record, claimedAddresses(endpoint)) } : undefined;
  const port: LocalPort = { endpoint: id, mac, ips: addressesOf(endpoint), ...ends };
  onePorts.set(endpoint, { record, port });
  return port;
}

/** What of others holds, where there is a path. */
function remotesOf(
  { byHost, ignored }: Reading,
  self: NodeId,
  paths: Paths,
  ports: readonly LocalPort[],
): RemoteGroup[] {
  const remotes = byHost.flatMap(({ node, addressed }): RemoteGroup[] => {
    const vtep = paths.remote.get(node);
    return vtep === undefined || addressed.length === 0 ? [] : [{ vtep, members: addressed }];
  });
  // While ours hold under the rules, nobody else's has the same.
  if (ignored.every(({ node }) => node !== self)) return remotes;
  const ownMacs = new Set(ports.map(({ mac }) => mac));
  const ownIps = new Set(ports.flatMap(({ ips }) => ips));
  const isOurs = ({ mac, ips }: Addressed): boolean =>
    ownMacs.has(mac) || ips.some((ip) => ownIps.has(ip));
  return remotes.map((group) =>
    group.members.some(isOurs)
      ? { ...group, members: group.members.filter((each) => !isOurs(each)) }
      : group,
  );
}

function onSubnets({ subnets }: NetworkRecord, ips: readonly Ip[]): InterfaceAddress[] {
  return ips.flatMap((ip) =>
    subnets
      .filter(({ subnet }) => cidrContains(subnet, ip))
      .map(({ subnet }) => ({ ip, prefixLength: prefixLength(subnet) })),
  );
}

/** Other hosts that share a network of the class with this one, by VTEP. */
export function classPeers(
  tables: Tables,
  self: NodeId,
  encryption: SecurityClass,
): Map<NodeId, Ip> {
  const sharing = new Set(hostsSharing(tables, self, encryption));
  return vtepsOf(directHosts(tables.state).filter(({ id }) => sharing.has(id)));
}

/** The same, also those behind NAT. */
export function hostsSharing(tables: Tables, self: NodeId, encryption: SecurityClass): NodeId[] {
  const shared = (tables.state?.networks ?? []).filter(
    ({ id, encryption: its }) => its === encryption && saysOn(tables.hosts, self, id) === true,
  );
  const others = admittedHosts(tables.state).flatMap(({ id }) => (id === self ? [] : [id]));
  return others.filter((node) => shared.some(({ id }) => takesPart(tables, node, id)));
}

/** As the controller signed them: what a host says of itself could name somebody else's address. */
export function vtepsOf(hosts: readonly NodeRecord[]): Map<NodeId, Ip> {
  return new Map(hosts.map(({ id, vtep }) => [id, vtep]));
}
