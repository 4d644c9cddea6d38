import type { ClusterState } from "../../shared/cluster-state.ts";
import { rotateKeys } from "./networks.ts";
import type { Context, ControllerRecord } from "./record.ts";

/**
 * The record of a controller that was restored from an old backup and has met `met`: the newest state
 * that hosts hold, which it signed itself before and has forgotten. Every block and network of it
 * counts. Indices and VNIs that were used and freed in between are in no state: as many are passed over
 * as revisions are missing, since none of them used more than one of each. Keys of networks that the
 * backup does not know are made anew.
 */
export function recovered(
  record: ControllerRecord,
  met: ClusterState,
  context: Context,
): ControllerRecord {
  const missing = met.revision - record.state.revision;
  if (missing <= 0) return record;
  const networkKeys = Object.fromEntries(
    met.networks.flatMap(({ id }) => {
      const key = record.networkKeys[id];
      return key === undefined ? [] : [[id, key] as const];
    }),
  );
  const keyless = met.networks.map(({ id }) => id).filter((id) => networkKeys[id] === undefined);
  const newest = {
    ...record,
    state: met,
    networkKeys,
    nextNodeIndex: record.nextNodeIndex + missing,
    nextVni: record.nextVni + missing,
  };
  return rotateKeys(newest, keyless, context);
}
