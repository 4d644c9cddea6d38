import type { ClusterState, SignedState } from "../cluster-state.ts";
import { stateOf } from "../state/objects.ts";
import { heldUnder } from "../state/whole.ts";
import { verifyHead, verifyState } from "../trust.ts";
import { sha256 } from "./system.ts";

/** A state in either form: signed whole, or as objects under a signed head. @throws UNAUTHENTICATED, INVALID, TOO_LARGE */
export async function verifySigned(
  rootKey: Uint8Array,
  signed: SignedState,
): Promise<ClusterState> {
  if (signed.content === undefined) return verifyState(rootKey, signed);
  const head = await verifyHead(rootKey, signed);
  return stateOf(head, heldUnder(head, signed.content, sha256).objects.entries());
}
