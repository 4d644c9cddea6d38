import type { ClusterState, VipRecord } from "../../../shared/cluster-state.ts";
import type { NetworkId } from "../../../shared/ids.ts";

const NONE: readonly VipRecord[] = [];
const byNetwork = new WeakMap<readonly VipRecord[], ReadonlyMap<NetworkId, VipRecord[]>>();

const namesOf = new WeakMap<readonly VipRecord[], ReadonlySet<string>>();

export function hasVip(
  state: Pick<ClusterState, "vips"> | undefined,
  network: NetworkId,
  name: string,
): boolean {
  const vips = vipsOn(state, network);
  let names = namesOf.get(vips);
  if (names === undefined) namesOf.set(vips, (names = new Set(vips.map((vip) => vip.name))));
  return names.has(name);
}

/** Of one network: the very same list as long as the state has the same ones of all. */
export function vipsOn(
  state: Pick<ClusterState, "vips"> | undefined,
  network: NetworkId,
): readonly VipRecord[] {
  const vips = state?.vips;
  if (vips === undefined) return NONE;
  let index = byNetwork.get(vips);
  if (index === undefined) byNetwork.set(vips, (index = Map.groupBy(vips, (vip) => vip.network)));
  return index.get(network) ?? NONE;
}
