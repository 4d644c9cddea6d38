import { ControlClient } from "../controller/wire/client.ts";
import { Libp2pChannel } from "../controller/wire/libp2p-channel.ts";
import { toBase64Url } from "../shared/base64url.ts";
import { DEFAULT_PORTS } from "../shared/cluster-state.ts";
import { OverlayError } from "../shared/errors.ts";
import type { ClusterId } from "../shared/ids.ts";
import { sha256 } from "../shared/node/system.ts";
import type { Ip } from "../shared/ip.ts";
import { sealKeyPair } from "../shared/sealed-box.ts";
import { checkRootKey, parseToken } from "../shared/token.ts";
import { verifyClaim, verifyState } from "../shared/trust.ts";
import {
  type AgentFiles,
  ensureIdentity,
  type Membership,
  readMembership,
  writeMembership,
} from "./membership.ts";
import { underlayFacts } from "./node-facts.ts";

/** Longer than a member's request: a person waits, perhaps for a controller whose host is just busy. */
const TIMEOUT_MS = 10_000;

export interface JoinRequest {
  readonly token: string;
  readonly controller: { address: Ip; port?: number | undefined };
  readonly name: string;
  readonly advertise: Ip;
  /** Of this host's interface, where NAT gives it another outside. */
  readonly listen?: Ip | undefined;
}

/**
 * Asks the controller to admit this host and keeps what it answers; nothing is kept unless every
 * signature holds. @throws CONFLICT when the host is a member, UNAUTHENTICATED, UNREACHABLE.
 */
export async function joinCluster(files: AgentFiles, request: JoinRequest): Promise<Membership> {
  const held = readMembership(files);
  if (held !== undefined) throw alreadyMember(held.cluster);
  const token = parseToken(request.token);
  const identity = ensureIdentity(files);
  const { address, port } = request.controller;
  const client = new ControlClient(
    new Libp2pChannel(identity.seed),
    () => ({ address, port: port ?? DEFAULT_PORTS.controller, peer: undefined }),
    TIMEOUT_MS,
  );
  try {
    const { advertise, listen = advertise } = request;
    const facts = await underlayFacts(listen);
    const { answer, controller } = await client.request(
      {
        v: 1,
        kind: "join",
        id: token.id,
        secret: token.secret,
        facts: {
          name: request.name,
          address: advertise,
          vtep: advertise,
          ...(listen === advertise ? {} : { behindNat: listen }),
          underlayMtuBytes: facts.mtuBytes,
          ownSubnets: facts.ownSubnets,
          sealKey: toBase64Url(sealKeyPair(sha256, identity.seed).publicKey),
        },
      },
      "joined",
    );
    checkRootKey(sha256, token, answer.rootKey);
    const state = await verifyState(answer.rootKey, answer.state);
    const claim = await verifyClaim(answer.rootKey, answer.claim);
    if (
      state.cluster !== token.cluster ||
      state.controller.peerId !== controller ||
      claim.node.id !== identity.node
    )
      throw new OverlayError({
        code: "UNAUTHENTICATED",
        message: `what answered at ${address} is not the controller of cluster ${token.cluster}`,
        next: "check the address, and that the token is of this cluster",
      });
    const membership: Membership = {
      format: 1,
      cluster: state.cluster,
      rootKey: toBase64Url(answer.rootKey),
      claim: answer.claim,
      state: answer.state,
    };
    writeMembership(files, membership);
    return membership;
  } finally {
    await client.close();
  }
}

export function alreadyMember(cluster: ClusterId): OverlayError {
  return new OverlayError({
    code: "CONFLICT",
    message: `this host is a member of cluster ${cluster} already`,
    next: "see `overlay-ts status`; to change clusters, run `overlay-ts leave` first",
  });
}
