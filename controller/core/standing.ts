import type { ClusterState } from "../../shared/cluster-state.ts";
import type { Failure } from "../../shared/errors.ts";
import { generationOf } from "../../shared/revision.ts";
import type { ControllerRecord } from "./record.ts";

const RECOVER =
  "run `overlay-ts controller recover --from-mesh` on the controller's host; what runs goes on";

/**
 * Why this controller must decide nothing: it would sign another state under a revision that hosts
 * hold already, or a lower one. `met`: the newest state that was shown to it, or another of its own revision, its signatures
 * checked.
 * Undefined: it serves.
 */
export function standingOf(
  { state, restoredAtMs }: ControllerRecord,
  met: ClusterState | undefined,
): Failure | undefined {
  const newer = met !== undefined && met.revision > state.revision ? met : undefined;
  if (newer !== undefined && generationOf(newer.revision) > generationOf(state.revision)) {
    const { address } = newer.controller;
    return {
      code: "STALE",
      message: `the controller at ${address} has taken over from this one, which decides nothing any more`,
      next: `end it: \`systemctl disable --now overlay-ts-controller\`, and move its data away; the hosts ask the one at ${address}`,
    };
  }
  if (restoredAtMs !== undefined)
    return {
      code: "STALE",
      message: "this controller was restored from a backup, and has not met the hosts since",
      next: RECOVER,
    };
  if (newer !== undefined)
    return {
      code: "STALE",
      message: `hosts hold revision ${newer.revision} of this controller, and it knows only ${state.revision}: its data are old`,
      next: RECOVER,
    };
  if (met !== undefined && met !== state && met.revision === state.revision)
    return forkOf(state.revision);
  return undefined;
}

function forkOf(revision: number): Failure {
  return {
    code: "STALE",
    message: `hosts hold another state of revision ${revision} than this controller: its data were put back, or there are two controllers`,
    next: RECOVER,
  };
}

/** `holds`: what the asking host says that it holds. No proof, so this one request is refused, and no more. */
export function behind({ state }: ControllerRecord, holds: number): Failure | undefined {
  if (holds <= state.revision) return undefined;
  return {
    code: "STALE",
    message: `the controller knows revision ${state.revision} only, and this host holds ${holds}: the controller's data are old`,
    next: RECOVER,
  };
}
