import type { NodeClaim, SignedNodeClaim } from "../../shared/cluster-state.ts";
import type { NodeId } from "../../shared/ids.ts";
import { verifyClaim } from "../../shared/trust.ts";
import type { Admission } from "./port.ts";

export type Refusal = "badClaim" | "wrongPeer" | "notAdmitted" | "revoked";

/** Who may be on the mesh: whose claim the controller signed, and whom the newest state knows. */
export class AdmissionRules {
  readonly #rootKey: Uint8Array;
  #admission: Admission = { revision: 0, nodes: [], revoked: [] };

  constructor(rootKey: Uint8Array) {
    this.#rootKey = rootKey;
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
    // A host that joined after the newest state we know of: the controller's word for it counts.
    const newer = claim.revision > this.#admission.revision;
    return newer || this.#admission.nodes.includes(peer) ? undefined : "notAdmitted";
  }

  /** Of hosts connected already: is this one still a member? */
  stillWelcome(peer: NodeId): boolean {
    return !this.#admission.revoked.includes(peer);
  }
}
