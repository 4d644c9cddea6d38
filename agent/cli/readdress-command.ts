import { controllerFiles, hasCluster, readKeys } from "../../controller/files.ts";
import { readdressHere } from "../../controller/restoring.ts";
import { fromBase64Url } from "../../shared/base64url.ts";
import type { ClusterState } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import { verifySigned } from "../../shared/node/signed-state.ts";
import { notJoined } from "../core/life.ts";
import { addressFacts, type OwnAddresses, provenMembership } from "../membership/join.ts";
import {
  type Membership,
  readIdentity,
  readMembership,
  writeMembership,
} from "../membership/membership-files.ts";
import { readdress } from "../membership/readdress.ts";
import type { NotRunning, Status } from "../api/status.ts";
import { callAgent, type Context, filesOf, patient, requireRoot } from "./context.ts";
import { announced, NO_CONTROLLER_RUNS } from "./on-controller.ts";
import { ownAddresses } from "./membership-commands.ts";
import { waitFor } from "./wait-for.ts";
import { print, progress } from "./output.ts";
import { signedStates } from "./signed-states.ts";

/** Longer than an agent takes to notice, to stop and to start, on a small machine. */
const AGENT_TIMEOUT_MS = 120_000;

export interface ReaddressOptions {
  readonly advertiseAddr?: string;
  readonly listenAddr?: string;
  readonly replace?: boolean;
}

/** This host, a member, is at another address: same key, same containers, same blocks. */
export async function nodeReaddress(context: Context, options: ReaddressOptions): Promise<void> {
  requireRoot();
  const files = filesOf(context);
  const held = readMembership(files);
  if (held === undefined) throw notJoined();
  const { node } = readIdentity(files);
  const known = await newestState(context, held);
  const addresses = ownAddresses(options, known.settings.underlayFamily);
  const isControllerHere =
    known.controller.node === node && hasCluster(controllerFiles(context.dataDirectory));
  if (isControllerHere) await readdressWithController(context, held, node, addresses);
  else {
    progress(`asking the controller at ${known.controller.address}`);
    await readdress(files, held, known, addresses, options.replace);
  }
  const { advertise, listen = advertise } = addresses;
  progress("signed; waiting for the agent");
  await waitFor(
    () => worksAt(context, listen),
    () => patient(context, AGENT_TIMEOUT_MS),
  );
  const before = known.nodes.find(({ id }) => id === node)?.address;
  print(context, { node, address: advertise, before }, () =>
    [
      `This host is at ${advertise} now; the others hear it from the controller.`,
      ...(isControllerHere ? [`So is the controller: new hosts join at ${advertise}.`] : []),
      ...(before === undefined || before === advertise
        ? []
        : [`${before} can be another host's in ten minutes.`]),
    ].join("\n"),
  );
}

/**
 * Nobody can ask it where it was: the record is changed here, as root may.
 * @throws as `readdressHere` and `announced`: then it is changed, and running it again tells it
 */
export async function readdressWithController(
  context: Context,
  held: Membership,
  node: NodeId,
  addresses: OwnAddresses,
): Promise<void> {
  const controller = controllerFiles(context.dataDirectory);
  const keys = await readKeys(controller);
  const facts = await addressFacts(addresses);
  const answer = await readdressHere(controller, keys, node, facts);
  const expected = { cluster: held.cluster, controller: keys.peer.node, node };
  writeMembership(filesOf(context), await provenMembership(answer, expected));
  if (!(await announced(context))) progress(NO_CONTROLLER_RUNS);
}

async function newestState(context: Context, held: Membership): Promise<ClusterState> {
  const rootKey = fromBase64Url(held.rootKey);
  const states = await Promise.all(
    (await signedStates(context, held)).map((signed) => verifySigned(rootKey, signed)),
  );
  return states.reduce((a, b) => (b.revision > a.revision ? b : a));
}

async function worksAt(context: Context, address: string): Promise<void> {
  const status = await callAgent<Status | NotRunning>(context, "GET", "/v1/status");
  if (status.joined && status.address === address) return;
  throw new OverlayError({
    code: "TIMEOUT",
    message: `the address is signed, and the agent does not work at ${address} yet`,
    next: "see `overlay-ts status`",
  });
}
