import type { ClusterState, NextNumbers } from "../../shared/cluster-state.ts";
import { FIRST_NETWORK_VNI } from "../../shared/ids.ts";
import { changesOf, revisionOf } from "../../shared/revision.ts";
import { rotateKeys } from "./networks.ts";
import { type Context, type ControllerRecord, withNumbers } from "./record.ts";

/**
 * Changes, VNIs and indices that are passed over beyond what was met: the controller's last words may
 * have been heard by hosts only that nobody reaches now. What it says next is newer than those too.
 */
export const UNHEARD = 100;

/**
 * The record of a controller that was restored from a backup and has met `met`: the newest state that
 * hosts hold, which it signed itself before and has forgotten, or undefined when the backup is as new.
 * Every block and network of it counts; where the controller is, the record says. No index and no VNI
 * comes again: what is spent stands in the state. Keys that the backup does not know, or that were changed
 * since, are made anew. Its tokens hold no more: they may have been used up.
 */
export function recovered(
  from: ControllerRecord,
  met: ClusterState | undefined,
  context: Context,
): ControllerRecord {
  const { restoredAtMs: _, ...record } = from;
  const before = record.state;
  // Of the same revision it is the one of a fork that hosts have taken.
  const state = met !== undefined && met.revision >= before.revision ? met : before;
  const next = nextNumbers(record, state);
  const epochs = new Map(before.networks.map(({ id, keyEpoch }) => [id, keyEpoch]));
  const networkKeys = Object.fromEntries(
    state.networks.flatMap(({ id, keyEpoch }) => {
      const key = record.networkKeys[id];
      return key === undefined || epochs.get(id) !== keyEpoch ? [] : [[id, key] as const];
    }),
  );
  const keyless = state.networks.map(({ id }) => id).filter((id) => !(id in networkKeys));
  const newest: ControllerRecord = {
    ...record,
    state: { ...state, controller: before.controller, revision: state.revision + UNHEARD },
    tokens: [],
    networkKeys,
  };
  // None of the changes that nobody has heard of spent more than one of each.
  const [nextVni, nextNodeIndex] = [next.vni + UNHEARD, next.nodeIndex + UNHEARD];
  return rotateKeys(withNumbers(newest, { nextVni, nextNodeIndex }), keyless, context);
}

/** What is not spent, by a record and the newest state. */
function nextNumbers(record: ControllerRecord, state: ClusterState): NextNumbers {
  const highest = Math.max(0, ...state.nodes.map(({ index }) => index));
  const said = state.numbers ?? numbersOfOld(record, state);
  return {
    vni: Math.max(record.nextVni, said.vni),
    nodeIndex: Math.max(record.nextNodeIndex, said.nodeIndex, highest + 1),
  };
}

/**
 * Of a state that a controller of 0.1.0 signed, which does not say it. Each node that was ever admitted is in it, as one of its
 * hosts or as revoked; of networks that were made and ended since there is no trace, and no change used more than one VNI.
 */
function numbersOfOld(record: ControllerRecord, state: ClusterState): NextNumbers {
  const before = record.state;
  const missing = Math.max(0, changesOf(state.revision) - changesOf(before.revision));
  const admitted = new Set([...before.nodes.map(({ id }) => id), ...before.revoked]);
  const ids = [...state.nodes.map(({ id }) => id), ...state.revoked];
  const unknown = ids.filter((id) => !admitted.has(id));
  return { vni: record.nextVni + missing, nodeIndex: record.nextNodeIndex + unknown.length };
}

/**
 * The record of a controller that takes over from the one of `record`, above all that this one can ever
 * say. It has met the hosts' newest state already.
 */
export function promoted(
  record: ControllerRecord,
  met: ClusterState,
  { generation, controller }: { generation: number; controller: ClusterState["controller"] },
  context: Context,
): ControllerRecord {
  const newest = recovered({ ...record, state: { ...record.state, controller } }, met, context);
  const revision = revisionOf(generation, changesOf(newest.state.revision));
  return { ...newest, state: { ...newest.state, revision } };
}

/**
 * What can be known of a controller's record without a backup: no key, no token; and where the state does not say which indices
 * and VNIs are spent, as that of 0.1.0, what they may have come to at most (a change uses one VNI at most).
 */
export function recordOf(state: ClusterState): ControllerRecord {
  const everAdmitted = state.nodes.length + state.revoked.length;
  return {
    format: 1,
    state,
    tokens: [],
    nextNodeIndex:
      state.numbers?.nodeIndex ??
      Math.max(everAdmitted, ...state.nodes.map(({ index }) => index)) + 1,
    nextVni: state.numbers?.vni ?? FIRST_NETWORK_VNI + changesOf(state.revision),
    networkKeys: {},
  };
}
