import type { ClusterState, SignedState } from "../../shared/cluster-state.ts";
import type { HostDocument, NetworkDocument } from "../../shared/documents.ts";
import { asFailure } from "../../shared/errors.ts";
import type { Hasher, Verifier } from "../../shared/ports.ts";
import { documentHolds, hostHolds } from "../core/tables/verify.ts";
import type { SavedTables } from "./saved-tables.ts";

export interface RestoringModules {
  readonly saved: SavedTables;
  readonly hasher: Hasher;
  readonly verifier: Verifier;
  /** The chain of trust from the pinned root key. @throws UNAUTHENTICATED */
  readonly verifyState: (signed: SignedState) => Promise<ClusterState>;
}

export interface RestoredTables {
  readonly signed: SignedState;
  readonly state: ClusterState;
  readonly hosts: readonly HostDocument[];
  readonly documents: readonly NetworkDocument[];
}

const NOT_SIGNED = "its owner did not sign it";

/**
 * The tables as the disk has them. It may give back other bytes than it took, so what was signed then must
 * hold now; what does not is lost. A state that is not the controller's gives way to that of the joining.
 * @throws UNAUTHENTICATED when that does not hold either.
 */
export async function restoredTables(
  modules: RestoringModules,
  joinedWith: SignedState,
): Promise<RestoredTables> {
  const { saved, hasher, verifier } = modules;
  const hosts = saved.hosts().filter((document) => {
    if (hostHolds(document, verifier)) return true;
    saved.loseHost(document, NOT_SIGNED);
    return false;
  });
  const documents = saved.documents().filter((document) => {
    if (documentHolds(document, hasher, verifier)) return true;
    saved.loseDocument(document, NOT_SIGNED);
    return false;
  });
  return { ...(await savedState(modules, joinedWith)), hosts, documents };
}

async function savedState(
  { saved, verifyState }: RestoringModules,
  joinedWith: SignedState,
): Promise<Pick<RestoredTables, "signed" | "state">> {
  const held = saved.state();
  let newest: Pick<RestoredTables, "signed" | "state"> | undefined;
  if (held !== undefined)
    try {
      newest = { signed: held, state: await verifyState(held) };
    } catch (error) {
      saved.loseState(asFailure(error).message);
    }
  // That of the membership is newer when the controller has just signed another address of this host.
  const joined = { signed: joinedWith, state: await verifyState(joinedWith) };
  if (newest !== undefined && newest.state.revision >= joined.state.revision) return newest;
  saved.saveState(joinedWith);
  return joined;
}
