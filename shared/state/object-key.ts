import type { VipRecord } from "../cluster-state.ts";
import { isLabel } from "../dns-name.ts";
import { NetworkId, NodeId } from "../ids.ts";

/** Names an object of the cluster's state wherever it is kept or told. ASCII. */
export type ObjectKey =
  | "settings"
  | "controller"
  | "numbers"
  | `node/${NodeId}`
  | `network/${NetworkId}`
  | `revoked/${NodeId}`
  | `blocks/${NetworkId}/${NodeId}`
  | `vip/${NetworkId}/${string}`;

/** What a key is of. A kind that this version does not know is kept and handed on, and read by nobody. */
export type KeyParts =
  | { readonly kind: "settings" | "controller" | "numbers" }
  | { readonly kind: "node" | "revoked"; readonly node: NodeId }
  | { readonly kind: "network"; readonly network: NetworkId }
  /** All that this host has of that network. */
  | { readonly kind: "blocks"; readonly network: NetworkId; readonly node: NodeId }
  | { readonly kind: "vip"; readonly network: NetworkId; readonly name: string }
  | { readonly kind: "unknown" };

const UNKNOWN: KeyParts = { kind: "unknown" };

export function blocksKey(network: NetworkId, node: NodeId): ObjectKey {
  return `blocks/${network}/${node}`;
}

/** `name`: a label, which has no character that means something in a key. */
export function vipKey({ network, name }: Pick<VipRecord, "network" | "name">): ObjectKey {
  return `vip/${network}/${name}`;
}

export function keyParts(key: string): KeyParts {
  const [kind, id, of, ...more] = key.split("/");
  if (more.length > 0) return UNKNOWN;
  if (kind === "blocks") {
    const [network, node] = [NetworkId.safeParse(id), NodeId.safeParse(of)];
    return network.success && node.success
      ? { kind, network: network.data, node: node.data }
      : UNKNOWN;
  }
  if (kind === "vip") {
    const network = NetworkId.safeParse(id);
    return network.success && of !== undefined && isLabel(of)
      ? { kind, network: network.data, name: of }
      : UNKNOWN;
  }
  if (of !== undefined) return UNKNOWN;
  if (kind === "settings" || kind === "controller" || kind === "numbers")
    return id === undefined ? { kind } : UNKNOWN;
  if (kind === "node" || kind === "revoked") {
    const node = NodeId.safeParse(id);
    if (node.success) return { kind, node: node.data };
  }
  if (kind === "network") {
    const network = NetworkId.safeParse(id);
    if (network.success) return { kind, network: network.data };
  }
  return UNKNOWN;
}
