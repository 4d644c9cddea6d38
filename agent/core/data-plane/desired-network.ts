import type {
  NetworkRecord,
  NodeRecord,
  Ports,
  SecurityClass,
} from "../../../shared/cluster-state.ts";
import { addressesOf, claimedAddresses } from "../../../shared/documents.ts";
import type { NetworkId, NodeId, Vni } from "../../../shared/ids.ts";
import { cidrContains, type Ip, prefixLength } from "../../../shared/ip.ts";
import type {
  DesiredGuards,
  DesiredNetwork,
  InterfaceAddress,
  LocalPort,
  RemoteEntry,
  Speaker,
} from "./kernel-state.ts";
import type { Holder } from "./claims.ts";
import { readNetwork } from "./read-network.ts";
import { sealedSubnets } from "./sealed.ts";
import type { FormerVteps } from "./vtep-moves.ts";
import { admittedHosts, directHosts } from "../tables/admitted.ts";
import { isUsedHere, saysOn, takesPart } from "../tables/hosts.ts";
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
  const remote = vtepsOf(directHosts(tables.state));
  const local = remote.get(self) && (sendsFrom ?? remote.get(self));
  remote.delete(self);
  return local && { encryption: "none", local, remote };
}

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
  const record = tables.state?.networks.find((candidate) => candidate.id === network);
  if (tables.state === undefined || record === undefined) return undefined;
  if (!isUsedHere(tables, self, network)) return undefined;
  if (paths?.encryption !== record.encryption) return undefined;
  const local = tables.documents(network).get(self)?.endpoints ?? [];
  const ports: LocalPort[] = [];
  // What runs here has its port whatever the rules say: they decide whom others believe.
  for (const endpoint of local)
    ports.push({
      endpoint: endpoint.id,
      mac: endpoint.mac,
      ips: addressesOf(endpoint),
      ...(endpoint.role === "host" ? { host: onSubnets(record, claimedAddresses(endpoint)) } : {}),
    });
  const ownMacs = new Set(ports.map(({ mac }) => mac));
  const ownIps = new Set(ports.flatMap(({ ips }) => ips));
  const { byHost, ignored } = readNetwork(tables, record);
  const remotes = [...byHost].flatMap(([node, holders]) => {
    const vtep = paths.remote.get(node);
    const all = vtep === undefined ? [] : remotesOf(holders, vtep);
    // Where all claims hold, ours do, and nobody claims the same.
    if (ignored.length === 0) return all;
    return all.filter(({ mac, ips }) => !ownMacs.has(mac) && !ips.some((ip) => ownIps.has(ip)));
  });
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
    remotes,
    flood: record.multicast
      ? [...paths.remote].flatMap(([node, vtep]) =>
          takesPart(tables, node, network) ? [vtep] : [],
        )
      : [],
  };
}

/** The same objects for the same holders and VTEP: a plan tells by that what has changed (changed-part.ts). */
const remoteLists = new WeakMap<readonly Holder[], readonly RemoteEntry[]>();
const remoteEntries = new WeakMap<Holder, RemoteEntry>();

function remotesOf(holders: readonly Holder[], vtep: Ip): readonly RemoteEntry[] {
  const kept = remoteLists.get(holders);
  if (kept !== undefined && (kept.length === 0 || kept[0]!.vtep === vtep)) return kept;
  const remotes = holders.map((holder) => remoteOf(holder, vtep));
  remoteLists.set(holders, remotes);
  return remotes;
}

function remoteOf(holder: Holder, vtep: Ip): RemoteEntry {
  const kept = remoteEntries.get(holder);
  if (kept?.vtep === vtep) return kept;
  const entry = { mac: holder.endpoint.mac, vtep, ips: holder.ips };
  remoteEntries.set(holder, entry);
  return entry;
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

/**
 * What guards let in, for the networks of these classes: admitted VTEPs, who hosts which VNI, who speaks
 * for which container. A host that changes over may speak from its former VTEP as well as from the signed one: what
 * hears of it first does not cut off what hears of it last.
 */
export function desiredGuards(
  tables: Tables,
  self: NodeId,
  classes: readonly SecurityClass[],
  former: FormerVteps = new Map(),
): DesiredGuards | undefined {
  const state = tables.state;
  if (state === undefined) return undefined;
  const signed = vtepsOf((classes.includes("wireguard") ? admittedHosts : directHosts)(state));
  const vteps = new Map(
    [...signed].map(([node, vtep]) => [node, [vtep, ...(former.get(node) ?? [])]]),
  );
  const own = vteps.get(self) ?? [];
  vteps.delete(self);
  const hosting: { vtep: Ip; vni: NetworkRecord["vni"] }[] = [];
  const speakers: (readonly Speaker[])[] = [];
  const exposed: Speaker[] = [];
  for (const record of state.networks) {
    if (!classes.includes(record.encryption)) continue;
    for (const [node, from] of vteps)
      if (takesPart(tables, node, record.id))
        for (const vtep of from) hosting.push({ vtep, vni: record.vni });
    for (const [node, holders] of readNetwork(tables, record).byHost)
      for (const vtep of vteps.get(node) ?? [])
        speakers.push(speakersOf(holders, vtep, record.vni));
    for (const endpoint of tables.documents(record.id).get(self)?.endpoints ?? [])
      if (endpoint.role === "host")
        for (const vtep of own)
          for (const ip of addressesOf(endpoint))
            exposed.push({ vtep, vni: record.vni, mac: endpoint.mac, ip });
  }
  const { vxlanPlain, vxlanWireguard, vxlanIpsec, gossip, controller } = state.settings.ports;
  return {
    underlayFamily: state.settings.underlayFamily,
    classPorts: { plain: vxlanPlain, wireguard: vxlanWireguard, ipsec: vxlanIpsec },
    meshPorts: [gossip, controller],
    ipsec: classes.includes("ipsec"),
    vteps: [...vteps.values()].flat(),
    hosting,
    speakers: speakers.flat(),
    exposed,
    sealed: sealedSubnets(tables, self),
  };
}

/** The same objects for the same holders, VTEP and VNI: who writes them tells by that what has changed. */
const speakerLists = new WeakMap<readonly Holder[], readonly Speaker[]>();

function speakersOf(holders: readonly Holder[], vtep: Ip, vni: Vni): readonly Speaker[] {
  const kept = speakerLists.get(holders);
  const [first] = kept ?? [];
  if (kept !== undefined && (first === undefined || (first.vtep === vtep && first.vni === vni)))
    return kept;
  const speakers = holders.flatMap(({ endpoint: { mac }, ips }) =>
    ips.map((ip) => ({ vtep, vni, mac, ip })),
  );
  speakerLists.set(holders, speakers);
  return speakers;
}

/** As the controller signed them: what a host says of itself could name somebody else's address. */
function vtepsOf(hosts: readonly NodeRecord[]): Map<NodeId, Ip> {
  return new Map(hosts.map(({ id, vtep }) => [id, vtep]));
}
