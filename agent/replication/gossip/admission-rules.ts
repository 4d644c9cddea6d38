import type { NodeClaim, SignedNodeClaim } from "../../../shared/cluster-state.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { verifyClaim } from "../../../shared/trust.ts";
import type { Admission } from "./port.ts";

export type Refusal = "badClaim" | "wrongPeer" | "notAdmitted" | "revoked" | "flooding";

/** Who may be on the mesh: whose claim the controller signed, and whom the newest state knows. */
export class AdmissionRules {
  readonly #rootKey: Uint8Array;
  readonly #isCut: (peer: NodeId) => boolean;
  #admission: Admission = { revision: 0, nodes: [], revoked: [] };

  /** `isCut`: it has sent more than can be borne, see `flood-limits.ts`. */
  constructor(rootKey: Uint8Array, isCut: (peer: NodeId) => boolean = () => false) {
    this.#rootKey = rootKey;
    this.#isCut = isCut;
  }

  set(admission: Admission): void {
    this.#admission = admission;
  }

  /** `peer` is who Noise proved the other end to be. Undefined: welcome. */
  async refusal(peer: NodeId, signed: SignedNodeClaim): Promise<Refusal | undefined> {
    let claim: NodeClaim;
    try {
      claim = await verifyClaim(this.#rootKey, signed);
    } catch {
      return "badClaim";
    }
    if (claim.node.id !== peer) return "wrongPeer";
    if (this.#admission.revoked.includes(peer)) return "revoked";
    if (this.#isCut(peer)) return "flooding";
    // A host that joined after the newest state we know of: the controller's word for it counts.
    const newer = claim.revision > this.#admission.revision;
    return newer || this.#admission.nodes.includes(peer) ? undefined : "notAdmitted";
  }

  /** Of hosts connected already: is this one still a member? */
  stillWelcome(peer: NodeId): boolean {
    return !this.#admission.revoked.includes(peer);
  }
}
