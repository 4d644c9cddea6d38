import { z } from "zod";
import { BOUNDS } from "./bounds.ts";
import { ClusterId, DockerNetworkId, NetworkId, NodeId, Vni } from "./ids.ts";
import { isLabel } from "./dns-name.ts";
import { Cidr, Ip } from "./ip.ts";
import { StatePoint } from "./state/head.ts";

/** The security class of a network: its own UDP port, see agent/kernel/nft/README.md. */
export const SecurityClass = z.enum(["none", "wireguard", "ipsec"]);
export type SecurityClass = z.infer<typeof SecurityClass>;

const Port = z.number().int().min(1).max(65535);

/** Cluster-wide ports. Never 4789 (Swarm, Calico) or 8472 (flannel, Cilium). */
export const Ports = z.strictObject({
  /** TCP, libp2p. */
  gossip: Port,
  /** UDP, VXLAN of class `none`. */
  vxlanPlain: Port,
  /** UDP, VXLAN inside WireGuard. */
  vxlanWireguard: Port,
  /** UDP, VXLAN inside ESP. */
  vxlanIpsec: Port,
  /** UDP, WireGuard itself. */
  wireguard: Port,
  /** TCP, the controller: joining and control. */
  controller: Port,
});
export type Ports = z.infer<typeof Ports>;

export const DEFAULT_PORTS: Ports = {
  gossip: 7947,
  vxlanPlain: 7948,
  vxlanWireguard: 7949,
  vxlanIpsec: 7950,
  wireguard: 7951,
  controller: 7952,
};

const HOUR_MS = 3_600_000;

/** When keys change by themselves; WireGuard sees to its own. Whatever comes first. */
export const KeySchedule = z.object({
  /** IPsec's of a pair of hosts and a direction; earlier by up to a fifth, so that not all change at once. */
  ipsecMs: z
    .number()
    .int()
    .min(10_000)
    .max(7 * 24 * HOUR_MS)
    .default(HOUR_MS),
  /** Half of what is left before a 32-bit number would be used again (RFC 4303, section 2.2). */
  ipsecPackets: z
    .number()
    .int()
    .min(1000)
    .max(2 ** 31)
    .default(2 ** 31),
  /** 2^40 are a quarter of an hour of 10 Gbit/s; AES-GCM bears far more (RFC 4106, NIST SP 800-38D). */
  ipsecBytes: z
    .number()
    .int()
    .min(2 ** 20)
    .max(2 ** 50)
    .default(2 ** 40),
  /** The keys that seal what hosts say of a network. */
  gossipMs: z
    .number()
    .int()
    .min(HOUR_MS)
    .max(10 * 365 * 24 * HOUR_MS)
    .default(30 * 24 * HOUR_MS),
});
export type KeySchedule = z.infer<typeof KeySchedule>;

export const Settings = z.object({
  underlayFamily: z.union([z.literal(4), z.literal(6)]),
  ports: Ports,
  /** docker_gwbridge on every host; outside Docker's own default pools. */
  gwbridgeSubnet: Cidr,
  /** Where networks without `--subnet` come from. */
  defaultPools: z.array(z.object({ base: Cidr, prefixLength: z.number().int() })).min(1),
  /** The data-path proof network: each node's address is this base + its index. */
  proofSubnet: Cidr,
  /** Inside WireGuard each node's address is this base + its index; IPv4, whatever the underlay. */
  wireguardSubnet: Cidr.default(Cidr.parse("198.19.0.0/16")),
  /** For networks that say nothing of encryption. */
  defaultEncryption: SecurityClass,
  /** What plain `-o encrypted` means. */
  encryptedMeans: z.enum(["wireguard", "ipsec"]),
  keySchedule: KeySchedule.default(KeySchedule.parse({})),
});
export type Settings = z.infer<typeof Settings>;

export const DEFAULT_SETTINGS: Settings = {
  underlayFamily: 4,
  ports: DEFAULT_PORTS,
  gwbridgeSubnet: Cidr.parse("10.255.240.0/20"),
  defaultPools: [{ base: Cidr.parse("10.192.0.0/11"), prefixLength: 20 }],
  proofSubnet: Cidr.parse("198.18.0.0/16"),
  wireguardSubnet: Cidr.parse("198.19.0.0/16"),
  defaultEncryption: "none",
  encryptedMeans: "wireguard",
  keySchedule: KeySchedule.parse({}),
};

/** Of a host's interface: what IPv6 needs of every link (RFC 8200, section 5). */
export const LEAST_UNDERLAY_MTU_BYTES = 1280;

/** Of a host with more, which routes for others, the first are heeded. */
export const MOST_OWN_SUBNETS = 256;

export const NodeRecord = z.object({
  id: NodeId,
  /** Unique in the cluster; the host's name unless given. */
  name: z
    .string()
    .min(1)
    .max(64)
    .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, "letters and digits, after the first also _ . -"),
  /** Small, unique, never used again: the address in the proof network. Starts at 1. */
  index: z.number().int().min(1),
  /** Where peers dial gossip. */
  address: Ip,
  /** The VTEP that others send VXLAN to. */
  vtep: Ip,
  /** Of its interface, where NAT gives it the others outside: only WireGuard reaches through. */
  behindNat: Ip.optional(),
  underlayMtuBytes: z.number().int().min(LEAST_UNDERLAY_MTU_BYTES).max(65535),
  /** Subnets of the node that no network may overlap: routes, gateway, resolvers, docker_gwbridge. */
  ownSubnets: z.array(Cidr).max(MOST_OWN_SUBNETS),
  /** Curve25519 public key (base64url) to which network keys are sealed. */
  sealKey: z.string().max(64),
  joinedAtMs: z.number().int(),
  /** Networks by name the token allowed; absent = all. */
  allowedNetworks: z.array(z.string()).optional(),
});
export type NodeRecord = z.infer<typeof NodeRecord>;

export const SubnetRecord = z.object({
  subnet: Cidr,
  gateway: Ip,
  /** Blocks come from here, in this order; what lies outside is given by address (`--ip`). */
  dynamicRanges: z.array(Cidr).min(1).max(4),
  /** `--aux-address`: something else has these, on whatever host; no container gets one. */
  reserved: z.array(Ip).max(BOUNDS.reservedAddresses).optional(),
});
export type SubnetRecord = z.infer<typeof SubnetRecord>;

export const NetworkRecord = z.object({
  id: NetworkId,
  /** Docker's name; unique in the cluster. Absent until the engine it was made on has told it. */
  name: z.string().min(1).max(128).optional(),
  vni: Vni,
  encryption: SecurityClass,
  subnets: z.array(SubnetRecord).min(1).max(2),
  /** Of the containers' interfaces. */
  mtuBytes: z.number().int().min(576).max(65535),
  /** Broadcast and multicast reach every member; else only what has an entry is carried. */
  multicast: z.boolean().default(false),
  /** `-o dns.unhealthy`: whether members whose health check fails, or has not passed yet, are in answers. */
  unhealthyNames: z.enum(["leave-out", "include"]).default("leave-out"),
  internal: z.boolean(),
  attachable: z.boolean(),
  /** Docker's labels and `-o` options, exactly as given, to make the network again elsewhere. */
  labels: z.record(z.string().max(BOUNDS.labelBytes), z.string().max(BOUNDS.labelBytes)),
  driverOptions: z.record(z.string().max(BOUNDS.labelBytes), z.string().max(BOUNDS.labelBytes)),
  createdBy: NodeId,
  /** The id on the engine it was made on; absent when made by `overlay-ts network create`. */
  createdAs: DockerNetworkId.optional(),
  createdAtMs: z.number().int(),
  /** Hosts allowed to hold the network's key and endpoints; absent = all. */
  hosts: z.array(NodeId).optional(),
  /** Raised when the gossip key is rotated. */
  keyEpoch: z.number().int().min(1),
  /** When it was rotated last; absent = never. */
  keyedAtMs: z.number().int().optional(),
});
export type NetworkRecord = z.infer<typeof NetworkRecord>;

/** A host may give out addresses of `block`. The most specific block that holds an address decides. */
export const BlockRecord = z.object({ network: NetworkId, block: Cidr, node: NodeId });
export type BlockRecord = z.infer<typeof BlockRecord>;

/** Whose wish a virtual address is: only what labels and networks asked for ends by itself. */
export const VipMaker = z.enum(["cli", "label", "network"]);
export type VipMaker = z.infer<typeof VipMaker>;

/** An address that a name of a network answers, whoever has the name: no host gives out anything of its blocks. */
export const VipRecord = z.object({
  network: NetworkId,
  /** Canonical, one label. */
  name: z.string().refine(isLabel, "not one label of a name"),
  /** One for each subnet of the network. */
  ips: z.array(Ip).min(1).max(2),
  /** What is kept for such addresses, where `ips` come from, in their order: several share one. */
  blocks: z.array(Cidr).min(1).max(2),
  sticky: z.boolean(),
  madeBy: VipMaker,
});
export type VipRecord = z.infer<typeof VipRecord>;
/** What the next network and the next host get at least: no lower one is given, whoever has had it and is gone. */
export const NextNumbers = z.object({
  vni: z.number().int().min(1),
  nodeIndex: z.number().int().min(1),
});
export type NextNumbers = z.infer<typeof NextNumbers>;

/** All that the controller decides. One revision, signed whole, spread by gossip. */
export const ClusterState = z.object({
  format: z.literal(1),
  cluster: ClusterId,
  revision: z.number().int().min(1),
  settings: Settings,
  /** Where agents reach the controller: `address` and `settings.ports.controller`. */
  controller: z.object({ node: NodeId, address: Ip, peerId: NodeId }),
  nodes: z.array(NodeRecord).max(BOUNDS.nodes),
  revoked: z.array(NodeId),
  networks: z.array(NetworkRecord).max(BOUNDS.networks),
  blocks: z.array(BlockRecord),
  /** Absent: none. Hosts of 0.1.0 do not know them. */
  vips: z.array(VipRecord).min(1).optional(),
  /** Absent: a controller of 0.1.0 was the last to make a network or admit a host. */
  numbers: NextNumbers.optional(),
});
export type ClusterState = z.infer<typeof ClusterState>;

/** What hosts that hold the head's base need of a new revision (state/change.ts). */
export const SignedChange = z.object({
  jws: z.string().max(4096),
  /** Absent: that of the state before. */
  controllerCertificate: z.string().max(4096).optional(),
  change: z.custom<Uint8Array>((value) => value instanceof Uint8Array, "not bytes"),
});
export type SignedChange = z.infer<typeof SignedChange>;

/**
 * The state as it travels: a compact JWS (RFC 7515, EdDSA) whose payload is ClusterState as JSON,
 * and the controller's certificate: a JWS by the root key over `{cluster, controller: NodeId}`.
 */
export const SignedState = z.object({
  jws: z.string().max(BOUNDS.stateBytes),
  controllerCertificate: z.string().max(4096),
  /**
   * Then `jws` is that of a head (state/head.ts), and these are its objects (state/whole.ts), base64url: the state of a host that
   * followed changes. Hosts of 0.1.0 are never sent it.
   */
  content: z
    .string()
    .max(BOUNDS.objectsBytes * 1.5)
    .optional(),
  /**
   * Then `jws` is that of the newest head, and these lead there from what the asker holds, in order: what the controller answers
   * to who says that it takes them.
   */
  changes: z.array(SignedChange).max(BOUNDS.changesAtOnce).optional(),
});
export type SignedState = z.infer<typeof SignedState>;

/** A head alone (state/head.ts): its objects are asked for. */
export const SignedHead = z.object({
  jws: z.string().max(4096),
  controllerCertificate: z.string().max(4096),
});
export type SignedHead = z.infer<typeof SignedHead>;

/** What of the state a host takes from the controller. 0.1.0 says nothing, and takes it whole. */
export const Takes = z.object({
  /** Changes since are enough. */
  held: StatePoint.optional(),
  /** Some of the members that take it whole, as far as the asker has heard: it is handed on to them. */
  needWhole: z.array(NodeId).max(BOUNDS.hostsNamed).optional(),
});
export type Takes = z.infer<typeof Takes>;
/** What a node shows before a mesh connection is upgraded: JWS by the controller over its claim. */
export const NodeClaim = z.object({
  cluster: ClusterId,
  /** The state's revision in which the node was admitted. */
  revision: z.number().int().min(1),
  node: NodeRecord,
});
export type NodeClaim = z.infer<typeof NodeClaim>;

export const SignedNodeClaim = z.object({
  jws: z.string().max(64 * 1024),
  controllerCertificate: z.string().max(4096),
});
export type SignedNodeClaim = z.infer<typeof SignedNodeClaim>;
