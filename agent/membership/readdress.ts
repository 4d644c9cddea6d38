import { toBase64Url } from "../../shared/base64url.ts";
import { ControlClient } from "../../controller/wire/client.ts";
import { Libp2pChannel } from "../../controller/wire/libp2p-channel.ts";
import type { ClusterState } from "../../shared/cluster-state.ts";
import { asFailure, OverlayError } from "../../shared/errors.ts";
import type { Ip } from "../../shared/ip.ts";
import { addressFacts, machineFacts, type OwnAddresses, provenMembership } from "./join.ts";
import {
  type AgentFiles,
  type Membership,
  readIdentity,
  writeMembership,
} from "./membership-files.ts";
import { rememberWaiting } from "./readdress-waiting.ts";

const TIMEOUT_MS = 10_000;

/**
 * The controller signs that this member is at another address: its key and where the request comes from are the
 * proof. The agent, which takes part in nothing meanwhile, goes on with what is written here.
 * @param known the newest state that this host has: where the controller is
 * @param replace it was admitted on another machine, which is this one from now on
 * @throws UNREACHABLE: nothing has changed; FORBIDDEN, CONFLICT, INVALID: what the controller refused
 */
export async function readdress(
  files: AgentFiles,
  held: Membership,
  known: ClusterState,
  addresses: OwnAddresses,
  replace: boolean | undefined,
): Promise<Membership> {
  const { seed, node } = readIdentity(files);
  const { address, peerId: peer } = known.controller;
  const port = known.settings.ports.controller;
  const channel = new Libp2pChannel(seed);
  const client = new ControlClient(channel, () => ({ address, port, peer }), TIMEOUT_MS);
  try {
    const facts = await addressFacts(addresses);
    const machine = machineFacts(held.cluster, replace);
    const request = {
      v: 1,
      kind: "readdress",
      holds: known.revision,
      facts,
      ...machine,
      takes: {},
    } as const;
    const { answer } = await client.request(request, "joined").catch((error: unknown) => {
      if (!isUnanswered(error)) throw error;
      rememberWaiting(files, { address: addresses.advertise, controller: address });
      throw waiting(error, address);
    });
    if (toBase64Url(answer.rootKey) !== held.rootKey)
      throw new OverlayError({
        code: "UNAUTHENTICATED",
        message: `what answered at ${address} is of another cluster`,
        next: "see `overlay-ts status`: where the controller is",
      });
    const expected = { cluster: held.cluster, controller: peer, node };
    const membership = await provenMembership(answer, expected);
    writeMembership(files, membership);
    return membership;
  } finally {
    await client.close();
  }
}

function isUnanswered(error: unknown): boolean {
  const { code } = asFailure(error);
  return code === "UNREACHABLE" || code === "TIMEOUT";
}

/** Nothing has changed, and nothing is tried again by itself: that is for the person who asked to know. */
function waiting(error: unknown, controller: Ip): OverlayError {
  const { code, message } = asFailure(error);
  return new OverlayError(
    {
      code,
      message: `${message}; nothing has changed, and this host waits for the controller's signature`,
      next: `when the controller at ${controller} answers, run \`overlay-ts node readdress\` again; until then the host takes part in nothing`,
    },
    { cause: error },
  );
}
