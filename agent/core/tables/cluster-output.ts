import type { SignedChange, SignedHead, SignedState } from "../../../shared/cluster-state.ts";
import type { HostDocument } from "../../../shared/documents.ts";
import type { NodeId } from "../../../shared/ids.ts";

/** What the shell must do; in this order. */
export type ClusterOutput =
  | { readonly kind: "persistHost"; readonly document: HostDocument }
  | { readonly kind: "persistState"; readonly signed: SignedState }
  /** After the state and the changes that are there. */
  | { readonly kind: "persistChange"; readonly revision: number; readonly signed: SignedChange }
  | { readonly kind: "publish"; readonly bytes: Uint8Array }
  | {
      readonly kind: "request";
      readonly id: number;
      readonly to: NodeId;
      readonly bytes: Uint8Array;
    }
  /** Check the chain of trust (shared/trust.ts), then call `stateVerified`. */
  | { readonly kind: "verifyState"; readonly signed: SignedState }
  /** Check the head's signature, by the certificate that is given, then call `changeVerified`. */
  | {
      readonly kind: "verifyChange";
      readonly from: NodeId;
      readonly signed: SignedChange;
      readonly controllerCertificate: string;
    }
  /** Check the head's signature, then call `headVerified`. */
  | { readonly kind: "verifyHead"; readonly from: NodeId; readonly signed: SignedHead }
  /** The state or some host's document is another: everything derived from them may be. */
  | { readonly kind: "changed" };

export interface ClusterCounters {
  /** Documents of hosts that came. */
  parsed: number;
  merged: number;
  malformed: number;
  /** Of a later version of the wire. */
  otherVersion: number;
  badSignature: number;
  /** States and changes whose signatures do not hold, or that are not what was signed. */
  badState: number;
  /** States that came to be by a change. */
  followed: number;
  /** Changes that start from what is held, and do not lead to their head: held and head are then compared anew. */
  misfits: number;
  /** Revisions of which there were two states. */
  forks: number;
  /** States that came to be by comparing buckets, and what was told of them: hashes, objects. */
  caughtUp: number;
  hashBytes: number;
  objects: number;
  objectBytes: number;
  notMembers: number;
  overtaken: number;
  timeouts: number;
}

export function newClusterCounters(): ClusterCounters {
  return {
    parsed: 0,
    merged: 0,
    malformed: 0,
    otherVersion: 0,
    badSignature: 0,
    badState: 0,
    followed: 0,
    misfits: 0,
    forks: 0,
    caughtUp: 0,
    hashBytes: 0,
    objects: 0,
    objectBytes: 0,
    notMembers: 0,
    overtaken: 0,
    timeouts: 0,
  };
}
