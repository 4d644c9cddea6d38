import type {
  BlockRecord,
  ClusterState,
  NetworkRecord,
  Ports,
  SecurityClass,
} from "../../shared/cluster-state.ts";
import {
  addressesOf,
  claimedAddresses,
  type Endpoint,
  type NetworkDocument,
} from "../../shared/documents.ts";
import { mayHost } from "../../shared/allowed.ts";
import type { EndpointId, NetworkId, NodeId } from "../../shared/ids.ts";
import {
  cidrContains,
  familyOf,
  type Ip,
  ipToNumber,
  prefixLength,
  rangeOf,
} from "../../shared/ip.ts";
import { inRuleSpace, type Mac, ruleMac } from "../../shared/mac.ts";
import type {
  DesiredGuards,
  DesiredNetwork,
  InterfaceAddress,
  LocalPort,
  RemoteEntry,
} from "./data-plane.ts";
import type { Tables } from "./tables.ts";

/** Why an endpoint that some document holds is not in the data plane; shown in `status`. */
export interface Ignored {
  readonly node: NodeId;
  readonly endpoint: EndpointId;
  readonly reason:
    | "not-admitted"
    | "not-allowed"
    | "not-hosting"
    | "not-in-block"
    | "gateway"
    | "mac-rule"
    | "mac-taken"
    | "address-taken"
    | "no-address";
}

/** The endpoints of a network that hold under the rules, whose they are, and which do not. */
export interface Reading {
  readonly holders: readonly { node: NodeId; endpoint: Endpoint; ips: readonly Ip[] }[];
  readonly ignored: readonly Ignored[];
}

/**
 * The rules, applied when reading: the host is admitted, allowed on the network and has not said that
 * it is not (any more), each address lies in a block of that host (the most specific block decides), none is the gateway, the MAC is
 * what the address demands or lies outside the rule's space and is not claimed twice, and no address
 * is: a host that names one for two endpoints would have everybody's neighbour entry go to and fro.
 */
export function readNetwork(tables: Tables, record: NetworkRecord): Reading {
  const documents = [...tables.documents(record.id).values()];
  const held = readings.get(record);
  const same =
    held !== undefined &&
    held.state === tables.state &&
    held.hosts === tables.hostsVersion &&
    held.documents.length === documents.length &&
    held.documents.every((document, i) => document === documents[i]);
  if (same) return held.reading;
  const reading = read(tables, record);
  readings.set(record, { state: tables.state, hosts: tables.hostsVersion, documents, reading });
  return reading;
}

/** Records and documents are never changed, only replaced: what was read of the same is read again. */
const readings = new WeakMap<
  NetworkRecord,
  {
    readonly state: ClusterState | undefined;
    readonly hosts: object;
    readonly documents: readonly NetworkDocument[];
    readonly reading: Reading;
  }
>();

function read(tables: Tables, record: NetworkRecord): Reading {
  const state = tables.state;
  const around = blocksAround((state?.blocks ?? []).filter((block) => block.network === record.id));
  const admitted = new Set(state?.nodes.map((node) => node.id));
  for (const node of state?.revoked ?? []) admitted.delete(node);
  const gateways = new Set<Ip>(record.subnets.map((subnet) => subnet.gateway));
  const holders: { node: NodeId; endpoint: Endpoint; ips: Ip[] }[] = [];
  const ignored: Ignored[] = [];
  const freeMacs = new Set<Mac>();
  const taken = new Set<Ip>();

  // Sorted, so that every node gives what is claimed twice to the same claimant.
  for (const [node, document] of [...tables.documents(record.id)].toSorted(([a], [b]) =>
    a < b ? -1 : 1,
  ))
    for (const endpoint of document.endpoints) {
      const reason = fault(node, endpoint, claimedAddresses(endpoint));
      if (reason === undefined) holders.push({ node, endpoint, ips: addressesOf(endpoint) });
      else ignored.push({ node, endpoint: endpoint.id, reason });
    }
  return { holders, ignored };

  function fault(
    node: NodeId,
    endpoint: Endpoint,
    ips: readonly Ip[],
  ): Ignored["reason"] | undefined {
    if (!admitted.has(node)) return "not-admitted";
    if (record.hosts !== undefined && !record.hosts.includes(node)) return "not-allowed";
    // It left the network, and whoever was on it then may never tell us what it said last.
    if (tables.hosts.get(node)?.hosting.includes(record.id) === false) return "not-hosting";
    const [first] = ips;
    if (first === undefined) return "no-address";
    if (ips.some((ip) => gateways.has(ip))) return "gateway";
    if (!ips.every((ip) => around(ip)?.node === node)) return "not-in-block";
    const { mac } = endpoint;
    if (inRuleSpace(mac) && mac !== ruleMac(first)) return "mac-rule";
    if (freeMacs.has(mac)) return "mac-taken";
    if (ips.some((ip) => taken.has(ip))) return "address-taken";
    if (!inRuleSpace(mac)) freeMacs.add(mac);
    for (const ip of ips) taken.add(ip);
    return undefined;
  }
}

/** The most specific block around the address: its host may give it out. */
export function blockAround(blocks: readonly BlockRecord[], ip: Ip): BlockRecord | undefined {
  return blocksAround(blocks)(ip);
}

/** The same for many addresses. */
function blocksAround(blocks: readonly BlockRecord[]): (ip: Ip) => BlockRecord | undefined {
  const ranges = blocks
    .map((record) => ({ ...rangeOf(record.block), record, length: prefixLength(record.block) }))
    .toSorted((a, b) => b.length - a.length);
  return (ip) => {
    const family = familyOf(ip);
    const value = ipToNumber(ip);
    return ranges.find(
      (range) => range.family === family && range.first <= value && value <= range.last,
    )?.record;
  };
}

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

/** In clear: all members, by what the controller signed. Undefined: this host is none. */
export function plainPaths(tables: Tables, self: NodeId): Paths | undefined {
  const remote = directVteps(tables);
  const local = remote.get(self);
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
  const hosting = tables.hosts.get(self)?.hosting.includes(network) === true;
  const local = tables.documents(network).get(self)?.endpoints ?? [];
  if (tables.state === undefined || record === undefined) return undefined;
  if (!hosting && local.length === 0) return undefined;
  if (paths?.encryption !== record.encryption) return undefined;
  const ports: LocalPort[] = [];
  const remotes: RemoteEntry[] = [];
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
  for (const { node, endpoint, ips } of readNetwork(tables, record).holders) {
    const vtep = paths.remote.get(node);
    const clash = ownMacs.has(endpoint.mac) || ips.some((ip) => ownIps.has(ip));
    if (vtep !== undefined && !clash) remotes.push({ mac: endpoint.mac, vtep, ips });
  }
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
      ? [...paths.remote].flatMap(([node, vtep]) => (isOn(tables, node, network) ? [vtep] : []))
      : [],
  };
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
  const hosting = new Set(tables.hosts.get(self)?.hosting);
  const shared = (tables.state?.networks ?? []).filter(
    (record) => record.encryption === encryption && hosting.has(record.id),
  );
  const vteps = [...directVteps(tables)].filter(([node]) => node !== self);
  return new Map(vteps.filter(([node]) => shared.some(({ id }) => isOn(tables, node, id))));
}

/** The host says that it is on the network, and may be. */
function isOn(tables: Tables, node: NodeId, network: NetworkId): boolean {
  return (
    tables.hosts.get(node)?.hosting.includes(network) === true &&
    mayHost(tables.state, node, network)
  );
}

/**
 * What guards let in, for the networks of these classes: admitted VTEPs, who hosts which VNI, who speaks
 * for which container.
 */
export function desiredGuards(
  tables: Tables,
  self: NodeId,
  classes: readonly SecurityClass[],
): DesiredGuards | undefined {
  const state = tables.state;
  if (state === undefined) return undefined;
  const vteps = classes.includes("wireguard") ? vtepsOf(tables) : directVteps(tables);
  vteps.delete(self);
  const hosting: { vtep: Ip; vni: NetworkRecord["vni"] }[] = [];
  const speakers: { vtep: Ip; vni: NetworkRecord["vni"]; mac: Mac; ip: Ip }[] = [];
  for (const record of state.networks) {
    if (!classes.includes(record.encryption)) continue;
    for (const [node, vtep] of vteps)
      if (tables.hosts.get(node)?.hosting.includes(record.id) === true)
        hosting.push({ vtep, vni: record.vni });
    for (const { node, endpoint, ips } of readNetwork(tables, record).holders) {
      const vtep = vteps.get(node);
      if (vtep !== undefined)
        for (const ip of ips) speakers.push({ vtep, vni: record.vni, mac: endpoint.mac, ip });
    }
  }
  const { vxlanPlain, vxlanWireguard, vxlanIpsec } = state.settings.ports;
  return {
    underlayFamily: state.settings.underlayFamily,
    classPorts: { plain: vxlanPlain, wireguard: vxlanWireguard, ipsec: vxlanIpsec },
    ipsec: classes.includes("ipsec"),
    vteps: [...vteps.values()],
    hosting,
    speakers,
  };
}

/** Where VXLAN and ESP reach: not through NAT. */
function directVteps(tables: Tables): Map<NodeId, Ip> {
  const behindNat = new Set(
    tables.state?.nodes.flatMap((node) => (node.behindNat === undefined ? [] : [node.id])),
  );
  return new Map([...vtepsOf(tables)].filter(([node]) => !behindNat.has(node)));
}

/** As the controller signed them: what a host says of itself could name somebody else's address. */
function vtepsOf(tables: Tables): Map<NodeId, Ip> {
  const members = tables.state?.nodes ?? [];
  return new Map(
    members
      .filter(({ id }) => tables.state?.revoked.includes(id) === false)
      .map(({ id, vtep }) => [id, vtep]),
  );
}
