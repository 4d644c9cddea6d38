import { BOUNDS } from "../../../shared/bounds.ts";
import type { SignedState } from "../../../shared/cluster-state.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { MOST_CHANGE_BYTES } from "../../../shared/state/change.ts";
import type { ClusterGossip } from "./cluster-messages.ts";
import type { ClusterOutput } from "./cluster-output.ts";
import type { HeadedChange } from "./followed-state.ts";

/** What others are told of a new state: in one message, or that it is there. */

/** A state this large, with the rest of its message, still fits one gossip message. */
const INLINE_STATE_BYTES = BOUNDS.gossipMessageBytes - 8192;

/** `whole`: undefined: it is had from who hands this on. */
export function newsOfState(revision: number, whole: SignedState | undefined): ClusterOutput {
  const bytes = (whole?.jws.length ?? 0) + (whole?.controllerCertificate.length ?? 0);
  return published(
    whole !== undefined && bytes < INLINE_STATE_BYTES
      ? { v: 1, kind: "state", revision, state: whole }
      : { v: 1, kind: "stateIsThere", revision },
  );
}

/** `certificate`: that of the state before, which all have. */
export function newsOfChange({ signed, head }: HeadedChange, certificate: string): ClusterOutput {
  const { revision } = head;
  if (signed.change.length > MOST_CHANGE_BYTES)
    return published({ v: 1, kind: "stateIsThere", revision });
  const { controllerCertificate, ...rest } = signed;
  const change = controllerCertificate === certificate ? rest : signed;
  return published({ v: 1, kind: "change", revision, change });
}

function published(message: ClusterGossip): ClusterOutput {
  return { kind: "publish", bytes: encodeCbor(message) };
}
