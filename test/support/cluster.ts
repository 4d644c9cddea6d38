import type {
  DesiredNetwork,
  RemoteEntry,
  RemoteGroup,
  Wanted,
} from "../../agent/core/data-plane/kernel-state.ts";
import {
  DEFAULT_TRANSIT_POOL,
  transitOf,
  transitPools,
} from "../../agent/core/data-plane/transit.ts";
import type { ClusterState, NetworkRecord, NodeRecord } from "../../shared/cluster-state.ts";
import { DEFAULT_SETTINGS } from "../../shared/cluster-state.ts";
import type { Endpoint, HostDocument } from "../../shared/documents.ts";
import { ClusterId, EndpointId, NetworkId, NodeId, Vni } from "../../shared/ids.ts";
import { Cidr, type Family, Ip } from "../../shared/ip.ts";
import { ruleMac } from "../../shared/mac.ts";
import { sha256 } from "../../shared/node/system.ts";
import type { Signer, Verifier } from "../../shared/ports.ts";
import { equalBytes } from "../../shared/codec.ts";

/** A small cluster for tests: node k has VTEP 198.51.100.k and the block 10.192.k.0/24 of `app`. */

/** Of base58. */
export const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

export function nodeId(k: number): NodeId {
  return NodeId.parse(`12D3Koo${(ALPHABET[k] ?? "z").repeat(45)}`);
}

export function node(k: number): NodeRecord {
  const address = Ip.parse(`198.51.100.${k}`);
  return {
    id: nodeId(k),
    name: `h${k}`,
    index: k,
    address,
    vtep: address,
    underlayMtuBytes: 1500,
    ownSubnets: [],
    sealKey: "",
    joinedAtMs: 0,
  };
}

/** What it says of itself: on no network, until `changes` say so. */
export function hostDocument(k: number, changes: Partial<HostDocument> = {}): HostDocument {
  return {
    node: nodeId(k),
    version: { incarnation: 1, seq: 1 },
    bootId: "b",
    vtep: { advertised: vtepOf(k), local: vtepOf(k) },
    underlayMtuBytes: 1500,
    capabilities: [],
    hosting: [],
    signature: new Uint8Array(64),
    ...changes,
  };
}

export const app: NetworkRecord = {
  id: NetworkId.parse("0a".repeat(16)),
  name: "app",
  vni: Vni.parse(256),
  encryption: "none",
  subnets: [
    {
      subnet: Cidr.parse("10.192.0.0/16"),
      gateway: Ip.parse("10.192.0.1"),
      dynamicRanges: [Cidr.parse("10.192.0.0/16")],
    },
  ],
  mtuBytes: 1450,
  multicast: false,
  unhealthyNames: "leave-out",
  internal: false,
  attachable: true,
  labels: {},
  driverOptions: {},
  createdBy: nodeId(1),
  createdAtMs: 0,
  keyEpoch: 1,
};

export function clusterState(nodes: number, changes: Partial<ClusterState> = {}): ClusterState {
  const all = Array.from({ length: nodes }, (_, i) => node(i + 1));
  return {
    format: 1,
    cluster: ClusterId.parse("c".repeat(32)),
    revision: 1,
    settings: DEFAULT_SETTINGS,
    controller: { node: nodeId(1), address: Ip.parse("198.51.100.1"), peerId: nodeId(1) },
    nodes: all,
    revoked: [],
    networks: [app],
    blocks: all.map(({ id, index }) => ({
      network: app.id,
      block: Cidr.parse(`10.192.${index}.0/24`),
      node: id,
    })),
    ...changes,
  };
}

/** Container number `n` of node `k`. */
export function endpoint(k: number, n: number): Endpoint {
  const ipv4 = Ip.parse(`10.192.${k}.${n}`);
  const id = EndpointId.parse(
    `${k.toString(16).padStart(4, "0")}${n.toString(16).padStart(4, "0")}`,
  );
  return { id, ipv4, mac: ruleMac(ipv4) };
}

/** Where host `k` of `TestHosts` gets VXLAN. */
export function vtepOf(k: number, family: Family = 4): Ip {
  return Ip.parse(family === 4 ? `198.51.100.${k}` : `2001:db8::${k}`);
}

export function present(desired: DesiredNetwork, prune = true): Wanted {
  return { kind: "present", desired, prune };
}

/** What host `k` should hold of `app`, without containers. */
export function dataPlane(k: number, family: Family = 4): DesiredNetwork {
  return {
    network: app.id,
    vni: app.vni,
    encryption: "none",
    udpPort: 7948,
    localVtep: vtepOf(k, family),
    mtuBytes: family === 4 ? 1450 : 1430,
    gateways: [
      { ip: Ip.parse("10.192.0.1"), prefixLength: 16 },
      { ip: Ip.parse("fd00:192::1"), prefixLength: 64 },
    ],
    multicast: false,
    ports: [],
    remotes: [],
    flood: [],
  };
}

/** As on a host whose containers leave by the network. */
export function withWayOut<T extends DesiredNetwork>(desired: T): T {
  return { ...desired, transit: transitOf(transitPools(DEFAULT_TRANSIT_POOL), 7, [4, 6]) };
}

/** Each in a group of its own, as what is wanted has them. */
export function grouped(entries: readonly RemoteEntry[]): RemoteGroup[] {
  return entries.map(({ vtep, mac, ips }) => ({ vtep, members: [{ mac, ips }] }));
}

/** With an address of fd00:192::/64 beside, made of its IPv4 address. */
export function withIpv6(held: Endpoint): Endpoint {
  const [, , c, d] = held.ipv4!.split(".");
  return { ...held, ipv6: Ip.parse(`fd00:192::${c}:${d}`) };
}

/** A cheap stand-in for Ed25519: a hash keyed by the node id. For the simulation only. */
export function hashSigner(id: NodeId): Signer {
  return { sign: (message) => keyed(id, message) };
}

export const hashVerifier: Verifier = {
  verify: (id, message, signature) => equalBytes(keyed(id, message), signature),
};

function keyed(id: string, message: Uint8Array): Uint8Array {
  const half = sha256.sha256(new TextEncoder().encode(id), message);
  return Uint8Array.from([...half, ...half]);
}
