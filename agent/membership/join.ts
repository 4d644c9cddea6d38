import type { ControlChannel } from "../../controller/wire/channel.ts";
import { ControlClient } from "../../controller/wire/client.ts";
import type { AnswerOf } from "../../controller/wire/messages.ts";
import { Libp2pChannel } from "../../controller/wire/libp2p-channel.ts";
import { toBase64Url } from "../../shared/base64url.ts";
import { DEFAULT_PORTS } from "../../shared/cluster-state.ts";
import { asFailure, type ErrorCode, OverlayError } from "../../shared/errors.ts";
import type { ClusterId, NodeId } from "../../shared/ids.ts";
import type { Identity } from "../../shared/node/identity.ts";
import { sha256 } from "../../shared/node/system.ts";
import type { Ip } from "../../shared/ip.ts";
import { sealKeyPair } from "../../shared/sealed-box.ts";
import { checkRootKey, notItsController, parseToken, type Token } from "../../shared/token.ts";
import { verifySigned } from "../../shared/node/signed-state.ts";
import { verifyClaim } from "../../shared/trust.ts";
import type { UnderlayFacts } from "../../shared/underlay.ts";
import { machineIdFor } from "./machine-id.ts";
import {
  type AgentFiles,
  becomeMember,
  forgetJoiningKey,
  joiningIdentity,
  type Membership,
  readMembership,
} from "./membership-files.ts";
import { underlayFacts } from "./host-facts.ts";

/** Longer than a member's request: a person waits. */
const TIMEOUT_MS = 10_000;
/** A controller that takes connections, and has not answered: it may be admitting many. Asked again it admits once. */
const SLOW_MS = 300_000;

/** Of an address that went since it was chosen: what is true is told when it is back. */
const NO_UNDERLAY: UnderlayFacts = { underlayMtuBytes: 1500, ownSubnets: [] };

export interface OwnAddresses {
  readonly advertise: Ip;
  /** Of this host's interface, where NAT gives it another outside. */
  readonly listen?: Ip | undefined;
}

export interface JoinRequest extends OwnAddresses {
  readonly token: string;
  readonly controller: { address: Ip; port?: number | undefined };
  readonly name: string;
  /** This host's key was admitted on another machine, and counts here from now on. */
  readonly replace?: boolean | undefined;
  /** The controller may take so long, when that is longer than it may anyway. */
  readonly patienceMs?: number | undefined;
  /** Told each time that the controller took so long and is asked again. */
  readonly slow?: ((why: OverlayError) => void) | undefined;
}

export interface Joined {
  readonly membership: Membership;
  /** By name: another member that says the same machine id. */
  readonly machineSharedWith?: string | undefined;
}

type ChannelOf = (seed: Uint8Array) => ControlChannel;

/**
 * Asks the controller to admit this host and keeps what it answers; nothing is kept unless every
 * signature holds. @throws CONFLICT when the host is a member, or its key is another machine's; UNAUTHENTICATED,
 * UNREACHABLE; TIMEOUT when the controller takes connections and answers nothing for minutes.
 */
export async function joinCluster(
  files: AgentFiles,
  request: JoinRequest,
  channelOf: ChannelOf = (seed) => new Libp2pChannel(seed),
): Promise<Joined> {
  const held = readMembership(files);
  if (held !== undefined) throw alreadyMember(held.cluster);
  const token = parseToken(request.token);
  const facts = { name: request.name, ...(await addressFacts(request)) };
  const { identity, isNew } = joiningIdentity(files);
  let said: Awaited<ReturnType<typeof ask>>;
  try {
    said = await ask(identity, token, facts, request, channelOf);
  } catch (error) {
    if (isForNothing(asFailure(error).code, isNew)) forgetJoiningKey(files);
    throw error;
  }
  // Who answers so has admitted the key: it is kept, also when that is not who was meant.
  const { answer, controller } = said;
  checkRootKey(sha256, token, answer.rootKey);
  const expected = { cluster: token.cluster, controller, node: identity.node };
  const membership = await provenMembership(answer, expected);
  becomeMember(files, membership);
  return { membership, machineSharedWith: answer.machineSharedWith };
}

/** @throws what the controller refused, UNREACHABLE, TIMEOUT */
async function ask(
  { seed }: Identity,
  token: Token,
  facts: { name: string } & Awaited<ReturnType<typeof addressFacts>>,
  { controller: { address, port }, replace, patienceMs = 0, slow = () => {} }: JoinRequest,
  channelOf: ChannelOf,
): Promise<{ answer: AnswerOf<"joined">; controller: NodeId }> {
  const client = new ControlClient(
    channelOf(seed),
    () => ({ address, port: port ?? DEFAULT_PORTS.controller, peer: undefined }),
    Math.max(TIMEOUT_MS, patienceMs),
  );
  const request = {
    v: 1,
    kind: "join",
    id: token.id,
    secret: token.secret,
    cluster: token.cluster,
    facts: { ...facts, sealKey: toBase64Url(sealKeyPair(sha256, seed).publicKey) },
    ...machineFacts(token.cluster, replace),
    takes: {},
  } as const;
  const untilMs = performance.now() + Math.max(SLOW_MS, patienceMs);
  try {
    for (;;)
      try {
        return await client.request(request, "joined");
      } catch (error) {
        const isSlow = error instanceof OverlayError && error.code === "TIMEOUT";
        if (!isSlow || performance.now() > untilMs) throw error;
        slow(error);
      }
  } finally {
    await client.close();
  }
}

/** It may be that the controller admitted the key, and its answer was not heard or not understood. */
const FATE_UNKNOWN: readonly ErrorCode[] = ["UNREACHABLE", "TIMEOUT", "UNSUPPORTED", "INTERNAL"];

/**
 * Whether nobody counts the key that was made for joining. One that was shown before may be a member's by now, unless
 * it was revoked.
 */
function isForNothing(code: ErrorCode, isNew: boolean): boolean {
  return isNew ? !FATE_UNKNOWN.includes(code) : code === "FORBIDDEN";
}

/** Identifies this machine to the controller. */
export function machineFacts(cluster: ClusterId, replace: boolean | undefined) {
  const machine = machineIdFor(cluster);
  return {
    ...(machine === undefined ? {} : { machine }),
    ...(replace === true ? { replace } : {}),
  };
}

/** This host's addresses, for the controller. */
export async function addressFacts({ advertise, listen = advertise }: OwnAddresses) {
  const underlay = (await underlayFacts(listen)) ?? NO_UNDERLAY;
  return {
    address: advertise,
    vtep: advertise,
    ...(listen === advertise ? {} : { behindNat: listen }),
    ...underlay,
  };
}

/** What the controller answered, once its signatures hold. @throws UNAUTHENTICATED */
export async function provenMembership(
  { rootKey, claim, state }: Pick<AnswerOf<"joined">, "rootKey" | "claim" | "state">,
  expected: { cluster: ClusterId; controller: NodeId; node: NodeId },
): Promise<Membership> {
  const { cluster, controller } = await verifySigned(rootKey, state);
  const { node } = await verifyClaim(rootKey, claim);
  if (
    cluster !== expected.cluster ||
    controller.peerId !== expected.controller ||
    node.id !== expected.node
  )
    throw notItsController(expected.cluster);
  return { format: 1, cluster, rootKey: toBase64Url(rootKey), claim, state };
}

export function alreadyMember(cluster: ClusterId): OverlayError {
  return new OverlayError({
    code: "CONFLICT",
    message: `this host is a member of cluster ${cluster} already`,
    next: "see `overlay-ts status`; to change clusters, run `overlay-ts leave` first",
  });
}
