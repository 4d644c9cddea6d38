import type { SecurityClass } from "../../../shared/cluster-state.ts";
import type { EndpointId, NetworkId, NodeId, Vni } from "../../../shared/ids.ts";
import type { Cidr, Family, Ip } from "../../../shared/ip.ts";
import type { Mac } from "../../../shared/mac.ts";
import type { Group } from "./changed-part.ts";

/** A container as its packets name it. Never changed, only replaced, as are lists of these. */
export interface Addressed {
  readonly mac: Mac;
  readonly ips: readonly Ip[];
}

/** A container elsewhere: one FDB entry, one neighbour an address. */
export interface RemoteEntry extends Addressed {
  readonly vtep: Ip;
}

/** The containers behind one VTEP. */
export interface RemoteGroup extends Group<Addressed> {
  readonly vtep: Ip;
}

/** A container here: a veth, one end a bridge port of the network. */
export interface LocalPort {
  readonly endpoint: EndpointId;
  readonly mac: Mac;
  readonly ips: readonly Ip[];
  /** Of `network expose`: the other end stays with the host and has these. */
  readonly host?: readonly InterfaceAddress[];
}

export interface InterfaceAddress {
  readonly ip: Ip;
  readonly prefixLength: number;
}

/**
 * A network's way out: a veth from its namespace to the host's. Containers' packets leave by it from one address,
 * which no other network of the host has: two networks may have the same subnet.
 */
export interface Transit {
  /** The host's end. */
  readonly link: string;
  readonly ends: readonly TransitEnds[];
}

/** The two addresses of a prefix with room for two (RFC 3021, RFC 6164). */
export interface TransitEnds {
  readonly inside: Ip;
  readonly outside: Ip;
}

/** What the names of bridge ports begin with. */
export const PORT_LINKS = "ovp";

/** The bridge port of an endpoint: a link's name (IFNAMSIZ) has room for twelve of its digits. */
export function portLink(endpoint: EndpointId): string {
  return `${PORT_LINKS}${endpoint.slice(0, 12)}`;
}

/** All that the kernel should hold for one network; a pure function of the tables. */
export interface DesiredNetwork {
  readonly network: NetworkId;
  readonly vni: Vni;
  /** Decides where the VXLAN device's socket is: of WireGuard's class, never in the host's namespace. */
  readonly encryption: SecurityClass;
  /** UDP port of the security class. */
  readonly udpPort: number;
  readonly localVtep: Ip;
  readonly mtuBytes: number;
  readonly gateways: readonly InterfaceAddress[];
  /** Broadcast and multicast leave the host too. */
  readonly multicast: boolean;
  /** Undefined: containers do not leave by this network. */
  readonly transit?: Transit | undefined;
  readonly ports: readonly LocalPort[];
  /** A group for each host that has some. */
  readonly remotes: readonly RemoteGroup[];
  /** VTEPs of the other hosts on the network, each of which gets a copy (RFC 8293, head-end replication). */
  readonly flood: readonly Ip[];
}

/** What a pass over one network is to do. */
export type Wanted =
  /** What stands of it stays as it is: who could say what belongs there was not heard, or does not work now. */
  | { readonly kind: "keep" }
  /** Nothing of this network belongs on this host. */
  | { readonly kind: "absent" }
  /** `prune`: what the kernel holds beyond `desired` may be deleted. */
  | { readonly kind: "present"; readonly desired: DesiredNetwork; readonly prune: boolean };

/** What cannot be told from a device but by its shape: another one is mended. */
export type DeviceShape = Pick<
  DesiredNetwork,
  "vni" | "udpPort" | "localVtep" | "mtuBytes" | "gateways" | "multicast" | "transit"
>;

/** What the kernel was found to hold. Remote halves are apart because each can be missing alone. */
export interface ActualNetwork {
  readonly network: NetworkId;
  /** Anything of the network is there, if only a namespace that a crash left. */
  readonly present: boolean;
  /** Undefined: no namespace, or one without a working bridge and VXLAN device of this shape. */
  readonly device: DeviceShape | undefined;
  /** What else is not as `extend` makes it (settings, routes, flags, rules of the port filter), in words. */
  readonly faults: readonly string[];
  readonly ports: readonly LocalPort[];
  /** What a crash left of ports, by link: one that was never finished, or the filter's elements of one that went. */
  readonly unfinishedPorts: readonly string[];
  /** VXLAN FDB (`self`). */
  readonly vxlanFdb: readonly { mac: Mac; vtep: Ip }[];
  /** Bridge FDB on the VXLAN port (`master`). */
  readonly bridgeFdb: readonly Mac[];
  /** Neighbours on the bridge device. */
  readonly neighbours: readonly { ip: Ip; mac: Mac }[];
  /** VXLAN FDB of the all-zero MAC: who gets copies of broadcast and multicast. */
  readonly flood: readonly Ip[];
}

/** Ordered, idempotent kernel steps of one network. */
export type Step =
  | { readonly kind: "extend"; readonly desired: DesiredNetwork } // namespace and devices, made or mended in place
  | { readonly kind: "putRemotes"; readonly remotes: readonly RemoteEntry[] } // one batch, replace
  | { readonly kind: "removeFdb"; readonly entries: readonly { mac: Mac; vtep: Ip }[] }
  | { readonly kind: "removeNeighbours"; readonly ips: readonly Ip[] }
  | { readonly kind: "putFlood"; readonly vteps: readonly Ip[] }
  | { readonly kind: "removeFlood"; readonly vteps: readonly Ip[] }
  | { readonly kind: "putPort"; readonly port: LocalPort }
  | { readonly kind: "removePort"; readonly link: string }
  | { readonly kind: "retract" }; // devices and namespace

/** Containers of one host on one network, as their packets say: from which VTEP, on which network, and who speaks. */
export interface SpeakerGroup extends Group<Addressed> {
  readonly vtep: Ip;
  readonly vni: Vni;
}

/** What guards in the host's namespace let through: nothing else may speak. */
export interface DesiredGuards {
  /** All VTEPs are of it. */
  readonly underlayFamily: Family;
  /** UDP ports of the three classes, dropped when forwarded. */
  readonly classPorts: { plain: number; wireguard: number; ipsec: number };
  /** TCP ports of the mesh and the controller: no container's to open. */
  readonly meshPorts: readonly number[];
  /** IPsec's class is in use: its port is open to what comes and goes under ESP, else to nothing. */
  readonly ipsec: boolean;
  /** Admitted VTEPs. */
  readonly vteps: readonly Ip[];
  /** (VTEP, VNI) from host documents: who may speak on which network. */
  readonly hosting: readonly { vtep: Ip; vni: Vni }[];
  /** Nobody speaks for another host's container. */
  readonly speakers: readonly SpeakerGroup[];
  /** The same of this host itself, exposed in a network: its own processes' frames, which keep their socket. */
  readonly exposed: readonly SpeakerGroup[];
  /** Nothing is forwarded to them, see `sealedSubnets`; no two overlap. */
  readonly sealed: readonly Cidr[];
}

/** Whom this host asks through one class whether they are there. */
export interface Asked {
  /** Of the largest packet that has to pass. */
  readonly mtuBytes: number;
  readonly peers: readonly { readonly node: NodeId; readonly address: Ip }[];
}

/** The data-path proof network of a class in which VXLAN leaves the host itself. */
export interface DesiredProof extends Asked {
  readonly vni: Vni;
  readonly udpPort: number;
  readonly localVtep: Ip;
  readonly ownAddress: Ip;
  readonly prefixLength: number;
  readonly peers: readonly { node: NodeId; address: Ip; vtep: Ip }[];
}
