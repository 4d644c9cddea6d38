import type { ClusterState } from "../../shared/cluster-state.ts";
import type { NetworkId } from "../../shared/ids.ts";
import type { Cidr } from "../../shared/ip.ts";

/** Of nobody: what is kept for a network's virtual addresses, each once. */
export function vipBlocks({ vips = [] }: Pick<ClusterState, "vips">, network: NetworkId): Cidr[] {
  return [...new Set(vips.flatMap((vip) => (vip.network === network ? vip.blocks : [])))];
}
