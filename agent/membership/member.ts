import { fromBase64Url } from "../../shared/base64url.ts";
import type { NodeRecord, Settings } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Identity } from "../../shared/node/identity.ts";
import { verifySigned } from "../../shared/node/signed-state.ts";
import { verifyClaim } from "../../shared/trust.ts";
import {
  type AgentFiles,
  type Membership,
  readIdentity,
  readMembership,
} from "./membership-files.ts";

/** This host as a member, as its files have it and the controller signed it. */
export interface Member {
  readonly membership: Membership;
  readonly identity: Identity;
  /** As the controller signed it when the host joined, or took another address. */
  readonly node: NodeRecord;
  readonly settings: Settings;
  readonly rootKey: Uint8Array;
}

/** Of this host's own interface. */
export function listenAddress({ address, behindNat }: NodeRecord): Ip {
  return behindNat ?? address;
}

/** Undefined: not joined. @throws INVALID or UNAUTHENTICATED when the files are damaged, or not of one host. */
export async function readMember(files: AgentFiles): Promise<Member | undefined> {
  const membership = readMembership(files);
  if (membership === undefined) return undefined;
  const identity = readIdentity(files);
  const rootKey = fromBase64Url(membership.rootKey);
  const { node } = await verifyClaim(rootKey, membership.claim);
  const { settings } = await verifySigned(rootKey, membership.state);
  if (node.id !== identity.node)
    throw new OverlayError({
      code: "INVALID",
      message: `${files.identity} is not the key that this host joined with`,
      next: "restore it and membership.json from the same backup, or run `overlay-ts leave` and join again",
    });
  return { membership, identity, node, settings, rootKey };
}
