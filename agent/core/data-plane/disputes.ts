import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Mac } from "../../../shared/mac.ts";
import { type Claim, gatewayMacs } from "./claims.ts";

/** By host: claims that do not hold, and why. */
export type Lost = ReadonlyMap<NodeId, ReadonlyMap<Claim, "mac-taken" | "address-taken">>;

/**
 * Who does not get what is claimed twice, in an order that is the same on every node.
 * @param claims all on which another claim is; no other takes part in it
 */
export function disputes(record: NetworkRecord, claims: readonly Claim[]): Lost {
  const macs = new Set<Mac>(gatewayMacs(record));
  const taken = new Set<Ip>();
  const lost = new Map<NodeId, Map<Claim, "mac-taken" | "address-taken">>();
  const lose = (claim: Claim, why: "mac-taken" | "address-taken"): void => {
    const { node } = claim.holder;
    lost.set(node, (lost.get(node) ?? new Map<Claim, typeof why>()).set(claim, why));
  };
  const isDerived = ({ derivesMac }: Claim): boolean => derivesMac;
  // What an address derives first: no set of other claims keeps it back.
  const [derived, chosen] = [claims.filter(isDerived), claims.filter((claim) => !isDerived(claim))];
  for (const claim of [derived, chosen].flat()) {
    const { holder, claimed } = claim;
    const { mac } = holder.endpoint;
    if (macs.has(mac)) lose(claim, "mac-taken");
    else if (claimed.some((ip) => taken.has(ip))) lose(claim, "address-taken");
    else {
      macs.add(mac);
      for (const ip of claimed) taken.add(ip);
    }
  }
  return lost;
}
