import type { ClusterState, NetworkRecord } from "../../../shared/cluster-state.ts";
import type { NetworkId } from "../../../shared/ids.ts";

/** States are never changed, only replaced. */
const recordsOfStates = new WeakMap<ClusterState, ReadonlyMap<NetworkId, NetworkRecord>>();

/** What the controller signed of the network, found without a look at the others. */
export function recordOf(
  state: ClusterState | undefined,
  network: NetworkId,
): NetworkRecord | undefined {
  if (state === undefined) return undefined;
  let records = recordsOfStates.get(state);
  if (records === undefined) {
    records = new Map(state.networks.map((record) => [record.id, record]));
    recordsOfStates.set(state, records);
  }
  return records.get(network);
}
