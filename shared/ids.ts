import { z } from "zod";

/** libp2p peer id of the node's Ed25519 key (base58, `12D3Koo…`): the id *is* the public key. */
export const NodeId = z
  .string()
  .regex(/^12D3Koo[1-9A-HJ-NP-Za-km-z]{45}$/, "not a node id")
  .brand<"NodeId">();
export type NodeId = z.infer<typeof NodeId>;

/** 16 random bytes, hex. The cluster's own id of a network; Docker's id differs on every engine. */
export const NetworkId = z
  .string()
  .regex(/^[0-9a-f]{32}$/, "not a network id")
  .brand<"NetworkId">();
export type NetworkId = z.infer<typeof NetworkId>;

export const ClusterId = z
  .string()
  .regex(/^[0-9a-f]{32}$/, "not a cluster id")
  .brand<"ClusterId">();
export type ClusterId = z.infer<typeof ClusterId>;

/**
 * Tells one machine from another within one cluster, and nothing else: made of the machine's own id and the
 * cluster's, so that neither the machine's nor that of another cluster can be known from it.
 */
export const MachineId = z
  .string()
  .regex(/^[0-9a-f]{32}$/, "not a machine id")
  .brand<"MachineId">();
export type MachineId = z.infer<typeof MachineId>;

/** Docker's endpoint id, 64 hex digits; in tests and `network expose` any hex. */
export const EndpointId = z
  .string()
  .regex(/^[0-9a-f]{8,64}$/, "not an endpoint id")
  .brand<"EndpointId">();
export type EndpointId = z.infer<typeof EndpointId>;

/** Docker's network id on one engine, 64 hex digits. */
export const DockerNetworkId = z
  .string()
  .regex(/^[0-9a-z]{12,64}$/, "not a Docker network id")
  .brand<"DockerNetworkId">();
export type DockerNetworkId = z.infer<typeof DockerNetworkId>;

/** RFC 7348 section 5: 24 bits. 1-255 are kept for overlay-ts itself (data-path proof). */
export const Vni = z.number().int().min(1).max(0xffffff).brand<"Vni">();
export type Vni = z.infer<typeof Vni>;

/** The data-path proof networks, see agent/kernel/proof/; WireGuard's tunnel answers by itself. */
export const PROOF_VNI_PLAIN = Vni.parse(1);
export const PROOF_VNI_IPSEC = Vni.parse(2);
export const FIRST_NETWORK_VNI = 256;
