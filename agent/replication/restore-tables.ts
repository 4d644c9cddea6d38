import type { ClusterState, SignedState } from "../../shared/cluster-state.ts";
import type { HostDocument, NetworkDocument } from "../../shared/documents.ts";
import { asFailure } from "../../shared/errors.ts";
import type { Hasher, Verifier } from "../../shared/ports.ts";
import type { StateHead } from "../../shared/state/head.ts";
import type { HeadedChange } from "../core/tables/followed-state.ts";
import { documentHolds, hostHolds } from "../core/tables/verify.ts";
import type { SavedTables } from "./saved-tables.ts";

export interface RestoringModules {
  readonly saved: SavedTables;
  readonly hasher: Hasher;
  readonly verifier: Verifier;
  /** The chain of trust from the pinned root key. @throws UNAUTHENTICATED */
  readonly verifyState: (signed: SignedState) => Promise<ClusterState>;
  readonly verifyHead: (
    signed: Pick<SignedState, "jws" | "controllerCertificate">,
  ) => Promise<StateHead>;
}

export interface RestoredTables {
  readonly signed: SignedState;
  readonly state: ClusterState;
  /** Of the states after it, in order. */
  readonly changes: readonly HeadedChange[];
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

type SavedState = Pick<RestoredTables, "signed" | "state" | "changes">;

async function savedState(modules: RestoringModules, joinedWith: SignedState): Promise<SavedState> {
  const { saved, verifyState } = modules;
  let newest: SavedState | undefined;
  for (let held = saved.state(); newest === undefined && held !== undefined; held = saved.state())
    try {
      newest = { signed: held, state: await verifyState(held), changes: [] };
    } catch (error) {
      saved.loseState(asFailure(error).message);
    }
  // That of the membership is newer when the controller has just signed another address of this host.
  const joined = { signed: joinedWith, state: await verifyState(joinedWith), changes: [] };
  if (newest === undefined || newest.state.revision < joined.state.revision) {
    saved.saveState(joinedWith);
    return joined;
  }
  return { ...newest, changes: await savedChanges(modules, newest.signed) };
}

/** One that does not hold, and what comes after it, is had from others again. */
async function savedChanges(
  { saved, verifyHead }: RestoringModules,
  { controllerCertificate }: SignedState,
): Promise<HeadedChange[]> {
  const changes: HeadedChange[] = [];
  for (const [revision, signed] of saved.changes())
    try {
      const head = await verifyHead({
        jws: signed.jws,
        controllerCertificate: signed.controllerCertificate ?? controllerCertificate,
      });
      changes.push({ signed, head });
    } catch (error) {
      saved.loseChange(revision, asFailure(error).message);
    }
  return changes;
}
