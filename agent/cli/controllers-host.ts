import { controllerFiles, hasCluster } from "../../controller/files.ts";
import type { ControllerRecord } from "../../controller/core/record.ts";
import { storedRecord } from "../../controller/restoring.ts";
import { fromBase64Url } from "../../shared/base64url.ts";
import type { ClusterState, SignedState } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import { generationOf } from "../../shared/revision.ts";
import { verifyClaim } from "../../shared/trust.ts";
import { verifySigned } from "../../shared/node/signed-state.ts";
import { type Membership, readMembership } from "../membership/membership-files.ts";
import { type Context, filesOf } from "./context.ts";
import { signedStates } from "./signed-states.ts";

/**
 * The controller's host is in the table for as long as the controller is there, so one that forgot its key could
 * neither be removed nor join again. @throws FORBIDDEN
 */
export async function refuseControllersHost(context: Context): Promise<void> {
  const state = await stateIfController(context);
  if (state === undefined) return;
  const { nodes, controller } = state;
  throw new OverlayError({
    code: "FORBIDDEN",
    message:
      "the cluster's controller is on this host: without its key the host could not be removed or join again",
    next: nodes.some(({ id }) => id !== controller.node)
      ? "make another host the controller, `overlay-ts controller promote --root-key FILE` there, and run this again; on a copy of this machine give --force"
      : "no other host is in the cluster: `deploy/uninstall.sh --purge --force` ends it; on a copy of this machine give --force",
  });
}

/** Of the cluster whose controller's host this is, by its files: an agent may not run. Undefined: it is not. */
async function stateIfController(context: Context): Promise<ClusterState | undefined> {
  const member = await readable(async () => asMember(context, readMembership(filesOf(context))));
  const files = controllerFiles(context.dataDirectory);
  const record = hasCluster(files) ? await readable(() => storedRecord(files)) : undefined;
  // Whose controller's data are here is known by them alone where the membership is damaged.
  if (member === undefined) return record?.state;
  const state = record !== undefined && isNewer(record, member.state) ? record.state : member.state;
  return state.controller.node === member.node ? state : undefined;
}

interface AsMember {
  readonly node: NodeId;
  /** The newest on disk. */
  readonly state: ClusterState;
}

async function asMember(
  context: Context,
  membership: Membership | undefined,
): Promise<AsMember | undefined> {
  if (membership === undefined) return undefined;
  const rootKey = fromBase64Url(membership.rootKey);
  const { node } = await verifyClaim(rootKey, membership.claim);
  const signed: readonly SignedState[] = await readable(async () =>
    signedStates(context, membership),
  ).then((found) => found ?? [membership.state]);
  const states = await Promise.all(signed.map((state) => verifySigned(rootKey, state)));
  const [state] = states.toSorted((a, b) => b.revision - a.revision);
  return state && { node: node.id, state };
}

/** One that was restored knows less than the hosts, and is the controller unless another has taken over. */
function isNewer({ state, restoredAtMs }: ControllerRecord, held: ClusterState): boolean {
  if (state.cluster !== held.cluster) return false;
  if (restoredAtMs === undefined) return state.revision > held.revision;
  return generationOf(state.revision) >= generationOf(held.revision);
}

/** Damaged files are what `leave` is the way out of. */
async function readable<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch {
    return undefined;
  }
}
