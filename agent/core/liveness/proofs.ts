import type { ClusterState } from "../../../shared/cluster-state.ts";
import { type NodeId, PROOF_VNI_IPSEC, PROOF_VNI_PLAIN, type Vni } from "../../../shared/ids.ts";
import { type Cidr, type Ip, numberToIp, prefixLength, rangeOf } from "../../../shared/ip.ts";
import { largestMtuBytes } from "../../../shared/mtu.ts";
import { WIREGUARD_OVERHEAD_BYTES } from "../../../shared/wireguard.ts";
import type { Asked, DesiredProof } from "../data-plane/kernel-state.ts";
import { hostsSharing, type Paths } from "../data-plane/desired-network.ts";
import { admittedHosts, directHosts } from "../tables/admitted.ts";
import type { Tables } from "../tables/tables.ts";

/**
 * What a host says that is asked through IPsec: those of 0.1.0 have nothing there that answers. Through WireGuard all
 * do, since the address inside is their kernel's own.
 */
export const ANSWERS_IN_IPSEC = "proof-ipsec";

/**
 * The proof network of class `none`: each host's address is the subnet's base plus its index. A host
 * behind NAT cannot be on it: nobody asks it, and it asks nobody.
 * @param sendsFrom this host changes over, and its own end is still there
 */
export function desiredProof(
  state: ClusterState,
  self: NodeId,
  sendsFrom?: Ip,
): DesiredProof | undefined {
  const members = directHosts(state);
  const own = members.find(({ id }) => id === self);
  if (own === undefined) return undefined;
  const vteps = new Map(members.filter(({ id }) => id !== self).map(({ id, vtep }) => [id, vtep]));
  const local = sendsFrom ?? own.vtep;
  return proofNetwork(state, self, { encryption: "none", local, remote: vteps });
}

/**
 * The same under ESP, with those who share a network of the class, have a key, and say that they answer. Undefined:
 * the class cannot be used.
 */
export function desiredIpsecProof(
  tables: Tables,
  self: NodeId,
  paths: Paths | undefined,
): DesiredProof | undefined {
  const { state } = tables;
  if (state === undefined || paths === undefined) return undefined;
  const sharing = new Set(hostsSharing(tables, self, "ipsec"));
  const answers = (node: NodeId): boolean =>
    sharing.has(node) && tables.hosts.get(node)?.capabilities.includes(ANSWERS_IN_IPSEC) === true;
  const remote = new Map([...paths.remote].filter(([node]) => answers(node)));
  return proofNetwork(state, self, { ...paths, remote });
}

/** Whom to ask through WireGuard's tunnel itself, at its full size: those who share a network of the class. */
export function askedThroughWireguard(
  tables: Tables,
  self: NodeId,
  paths: Paths | undefined,
): Asked | undefined {
  const { state } = tables;
  if (state === undefined || paths === undefined) return undefined;
  return {
    mtuBytes:
      smallestUnderlay(admittedHosts(state)) -
      WIREGUARD_OVERHEAD_BYTES[state.settings.underlayFamily],
    peers: hostsSharing(tables, self, "wireguard").flatMap((node) => {
      const address = paths.remote.get(node);
      return address === undefined ? [] : [{ node, address }];
    }),
  };
}

const VNIS: Readonly<Record<"none" | "ipsec", Vni>> = {
  none: PROOF_VNI_PLAIN,
  ipsec: PROOF_VNI_IPSEC,
};

function proofNetwork(
  state: ClusterState,
  self: NodeId,
  { encryption, local, remote }: Paths,
): DesiredProof | undefined {
  const own = state.nodes.find(({ id }) => id === self);
  if (own === undefined || encryption === "wireguard") return undefined;
  const { proofSubnet, ports } = state.settings;
  const underlay = smallestUnderlay(directHosts(state));
  return {
    vni: VNIS[encryption],
    udpPort: encryption === "none" ? ports.vxlanPlain : ports.vxlanIpsec,
    localVtep: local,
    mtuBytes: largestMtuBytes(state.settings, underlay, encryption),
    ownAddress: proofAddress(proofSubnet, own.index),
    prefixLength: prefixLength(proofSubnet),
    peers: state.nodes.flatMap(({ id, index }) => {
      const vtep = remote.get(id);
      return vtep === undefined
        ? []
        : [{ node: id, address: proofAddress(proofSubnet, index), vtep }];
    }),
  };
}

function smallestUnderlay(members: Readonly<ClusterState["nodes"]>): number {
  return Math.min(...members.map(({ underlayMtuBytes }) => underlayMtuBytes));
}

function proofAddress(subnet: Cidr, index: number): Ip {
  const { first, family } = rangeOf(subnet);
  return numberToIp(first + BigInt(index), family);
}
