import { NetworkId, NodeId } from "../ids.ts";

/** Names an object of the cluster's state, or all blocks of a network, wherever it is kept or told. ASCII. */
export type ObjectKey =
  "settings" | "controller" | `node/${NodeId}` | `network/${NetworkId}` | `revoked/${NodeId}`;

export type BlocksKey = `blocks/${NetworkId}`;

/** What a key is of. A kind that this version does not know is kept and handed on, and read by nobody. */
export type KeyParts =
  | { readonly kind: "settings" | "controller" }
  | { readonly kind: "node" | "revoked"; readonly node: NodeId }
  | { readonly kind: "network" | "blocks"; readonly network: NetworkId }
  | { readonly kind: "unknown" };

export function blocksKey(network: NetworkId): BlocksKey {
  return `blocks/${network}`;
}

export function keyParts(key: string): KeyParts {
  const [kind, id, ...more] = key.split("/");
  if (more.length > 0) return { kind: "unknown" };
  if (kind === "settings" || kind === "controller")
    return id === undefined ? { kind } : { kind: "unknown" };
  if (kind === "node" || kind === "revoked") {
    const node = NodeId.safeParse(id);
    if (node.success) return { kind, node: node.data };
  }
  if (kind === "network" || kind === "blocks") {
    const network = NetworkId.safeParse(id);
    if (network.success) return { kind, network: network.data };
  }
  return { kind: "unknown" };
}
