import type { SignedState } from "../../shared/cluster-state.ts";
import { fromBase64Url } from "../../shared/base64url.ts";
import { verifySigned } from "../../shared/node/signed-state.ts";
import { sha256 } from "../../shared/node/system.ts";
import { verifyHead } from "../../shared/trust.ts";
import { FollowedState } from "../core/tables/followed-state.ts";
import type { Membership } from "../membership/membership-files.ts";
import { SavedTables } from "../replication/saved-tables.ts";
import { Disk } from "../store/disk.ts";
import { SqliteStore } from "../store/sqlite-store.ts";
import { type Context, filesOf } from "./context.ts";

/** The signed states on this host's disk, read beside an agent that may run: that of the joining, and the newest. */
export async function signedStates(
  context: Context,
  membership: Membership,
): Promise<SignedState[]> {
  const disk = new Disk(new SqliteStore(filesOf(context).database));
  try {
    const newest = await newestOf(new SavedTables(disk), fromBase64Url(membership.rootKey));
    return newest === undefined ? [membership.state] : [membership.state, newest];
  } finally {
    disk.close();
  }
}

/** With the changes after it, up to the first that does not hold. */
export async function newestOf(
  saved: Pick<SavedTables, "state" | "changes">,
  rootKey: Uint8Array,
): Promise<SignedState | undefined> {
  const state = saved.state();
  if (state === undefined) return undefined;
  const followed = new FollowedState(sha256);
  followed.whole(state, await verifySigned(rootKey, state));
  for (const [, signed] of saved.changes()) {
    const controllerCertificate = signed.controllerCertificate ?? state.controllerCertificate;
    const head = await verifyHead(rootKey, { jws: signed.jws, controllerCertificate }).catch(
      () => undefined,
    );
    if (head === undefined || followed.follow({ signed, head }).kind !== "followed") break;
  }
  return followed.proof();
}
