import type { NodeRecord } from "../../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../../shared/ids.ts";
import { ANSWERS_IN_IPSEC } from "../liveness/proofs.ts";
import { SERVES_VIPS } from "../balancing/serves-vips.ts";
import type { HostFacts } from "./cluster-replica.ts";
import { FOLLOWS_CHANGES } from "./following.ts";
import type { Tables } from "./tables.ts";

/** This host, as the controller signed it; undefined: it was removed from the cluster. */
export function ownRecord({ state }: Tables, self: NodeId): NodeRecord | undefined {
  return state?.nodes.find(({ id }) => id === self);
}

/** Networks with containers here, or that this host is exposed in. */
export function networksUsed(tables: Tables, self: NodeId): Set<NetworkId> {
  const networks = (tables.state?.networks ?? []).map(({ id }) => id);
  return new Set(
    networks.filter((id) => (tables.documents(id).get(self)?.endpoints.length ?? 0) > 0),
  );
}

/** What this host says of itself, beside its networks. Undefined: it was removed from the cluster. */
export function ownFacts(
  tables: Tables,
  self: NodeId,
  bootId: string,
  wireguardKey: string | undefined,
): Omit<HostFacts, "hosting" | "needs"> | undefined {
  const own = ownRecord(tables, self);
  if (own === undefined) return undefined;
  const { vtep, behindNat, underlayMtuBytes } = own;
  return {
    bootId,
    vtep: { advertised: vtep, local: behindNat ?? vtep },
    underlayMtuBytes,
    wireguardKey,
    capabilities: [ANSWERS_IN_IPSEC, FOLLOWS_CHANGES, SERVES_VIPS],
  };
}
