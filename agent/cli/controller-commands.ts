import { readFileSync, writeFileSync } from "node:fs";
import { type Backup, formatBackup, parseBackup } from "../../controller/backup.ts";
import type { ControllerStatus } from "../../controller/admin-api.ts";
import type { ControllerKeys } from "../../controller/controller.ts";
import { promoted, recordOf } from "../../controller/core/recovery.ts";
import {
  controllerFiles,
  type ControllerFiles,
  hasCluster,
  readKeyFile,
  readKeys,
  refuseSecond,
  writeController,
} from "../../controller/files.ts";
import { backUp, checkFamily, recover, restore, storedRecord } from "../../controller/restoring.ts";
import { signForAll } from "../../controller/state-signer.ts";
import { fromBase64Url } from "../../shared/base64url.ts";
import { equalBytes } from "../../shared/codec.ts";
import type { ClusterState } from "../../shared/cluster-state.ts";
import { asFailure, OverlayError } from "../../shared/errors.ts";
import type { ClusterId, NodeId } from "../../shared/ids.ts";
import { whyUnreadable, writeNewSecret } from "../../shared/node/files.ts";
import { type Identity, identityFromSeed } from "../../shared/node/identity.ts";
import { sha256, systemClock, systemRandom } from "../../shared/node/system.ts";
import { generationOf, MAX_GENERATION } from "../../shared/revision.ts";
import { counted } from "../../shared/text.ts";
import { signCertificate } from "../../shared/trust.ts";
import { verifySigned } from "../../shared/node/signed-state.ts";
import { ensureIdentity, readMembership } from "../membership/membership-files.ts";
import { chooseAddress } from "../membership/host-facts.ts";
import { heardHere, meeting, metText, nobody, refuseSuperseded } from "./controller-meeting.ts";
import { signedStates } from "./signed-states.ts";
import { callController, type Context, filesOf, parseIp, requireRoot } from "./context.ts";
import { announced, NO_CONTROLLER_RUNS } from "./on-controller.ts";
import { print, progress } from "./output.ts";

/** Commands that keep a controller's data, and bring it back. All of them need root. */

export async function backup(context: Context, file: string): Promise<void> {
  requireRoot();
  const files = controllerHere(context);
  const made = await backUp(files);
  const { cluster, revision } = made.record.state;
  if (file === "-") process.stdout.write(formatBackup(made));
  else {
    writeNewSecret(file, formatBackup(made));
    print(context, { file, cluster, revision }, () =>
      [
        `${file} holds the controller of cluster ${cluster} at revision ${revision}, and its key: keep it secret.`,
        "The root key is not in it.",
      ].join("\n"),
    );
  }
  noteBackup(files);
}

/** For `overlay_ts_last_backup_time_seconds`. The backup is made, whether that can be noted or not. */
function noteBackup({ lastBackup }: ControllerFiles): void {
  try {
    writeFileSync(lastBackup, `${new Date().toISOString()}\n`, { mode: 0o600 });
  } catch (error) {
    progress(`metrics do not know of this backup: ${asFailure(error).message}`);
  }
}

export interface PlaceOptions {
  readonly address?: string;
}

export async function restoreBackup(
  context: Context,
  file: string,
  options: PlaceOptions,
): Promise<void> {
  requireRoot();
  const read = await readBackup(file);
  const { state } = read.record;
  const { node } = await ownIdentity(context, state.cluster);
  const address =
    options.address === undefined ? undefined : chooseAddress(parseIp(options.address));
  const { state: restored } = await restore(controllerFiles(context.dataDirectory), read, {
    node,
    address,
  });
  print(
    context,
    { cluster: state.cluster, revision: state.revision, address: restored.controller.address },
    () =>
      [
        `The controller of cluster ${state.cluster} is here, at revision ${state.revision} of ${new Date(read.madeAtMs).toISOString()}.`,
        "It decides nothing before it knows what it has forgotten:",
        "",
        "    overlay-ts controller recover --from-mesh",
      ].join("\n"),
  );
}

/** The controller that runs here has met something that it must go beyond. */
async function isStale(context: Context): Promise<boolean> {
  const status = callController<ControllerStatus>(context, "GET", "/v1/status");
  return status.then(
    ({ problem }) => problem?.code === "STALE",
    () => false,
  );
}

export async function recoverFromMesh(context: Context): Promise<void> {
  requireRoot();
  const files = controllerHere(context);
  const keys = await readKeys(files);
  const { state, restoredAtMs } = await storedRecord(files);
  refuseSuperseded(state, await heardHere(context, keys.rootKey, state));
  await meeting(keys, generationOf(state.revision), state, async (meeting) => {
    const met = await meeting.meet();
    refuseSuperseded(state, met.newest?.state);
    if (met.answered.length === 0 && state.nodes.length > 0) throw await nobody(state);
    const held = met.newest?.state ?? state;
    const serves = restoredAtMs === undefined && !(await isStale(context));
    if (serves && met.newest === undefined) {
      const text = await metText(met, state);
      print(context, { recovered: false, revision: state.revision }, () =>
        [`Nothing to recover: no host holds more than revision ${state.revision}.`, text].join(
          "\n",
        ),
      );
      return;
    }
    const { after, signed, newKeys } = await recover(files, keys, met.newest?.state);
    const told = await meeting.tell(signed, after.revision);
    if (!(await announced(context))) progress(NO_CONTROLLER_RUNS);
    const names = newKeys.map(
      (id) => after.networks.find((network) => network.id === id)?.name ?? id,
    );
    const result = {
      recovered: true,
      restored: state.revision,
      met: held.revision,
      revision: after.revision,
      answered: met.answered,
      silent: met.silent,
      told,
      newKeys: names,
    };
    const text = await metText(met, held);
    print(context, result, () =>
      [
        `Recovered: revision ${state.revision} was here, ${held.revision} is the newest that was met, ${after.revision} is signed now.`,
        text,
        `${counted(after.nodes.length, "host")}, ${counted(after.networks.length, "network")}, ${counted(after.blocks.length, "block")}; told to ${counted(told.length, "host")}.`,
        ...(names.length === 0
          ? []
          : [`New keys, for the backup has none that holds: ${names.join(", ")}.`]),
        "Tokens made before hold no more: `overlay-ts token create` makes others.",
      ].join("\n"),
    );
  });
}

export interface PromoteOptions extends PlaceOptions {
  readonly rootKey: string;
  readonly backup?: string;
}

/** This host's controller takes over, from whichever decides now: the root key says so. */
export async function promote(context: Context, options: PromoteOptions): Promise<void> {
  requireRoot();
  const files = controllerFiles(context.dataDirectory);
  refuseSecond(
    files,
    `if its data are old, \`overlay-ts controller recover --from-mesh\`; else move ${files.directory} away first`,
  );
  const root = readKeyFile(options.rootKey);
  const held = options.backup === undefined ? undefined : await readBackup(options.backup);
  const known = await newestKnown(context, root.publicKey, held);
  const { cluster } = known;
  const identity = await ownIdentity(context, cluster);
  const address = chooseAddress(
    options.address === undefined ? undefined : parseIp(options.address),
    known.settings.underlayFamily,
  );
  checkFamily(known, address);
  await meeting(await scoutOf(root, cluster), MAX_GENERATION, known, async (meeting) => {
    const met = await meeting.meet();
    if (met.answered.length === 0) throw await nobody(known);
    const newest = met.newest?.state ?? known;
    const generation = generationOf(newest.revision) + 1;
    const peer = identityFromSeed(systemRandom.bytes(32));
    const claim = { cluster, controller: peer.node, generation };
    const certificate = await signCertificate(root, claim);
    const record = promoted(
      held?.record ?? recordOf(known),
      newest,
      { generation, controller: { node: identity.node, address, peerId: peer.node } },
      { wallMs: systemClock.wallMs(), random: systemRandom },
    );
    await writeController(files, {
      rootPublicKey: root.publicKey,
      controllerSeed: peer.seed,
      certificate,
      record,
    });
    const { state } = record;
    const signed = await signForAll({ controller: peer, certificate }, state, sha256);
    const told = await meeting.tell(signed, state.revision);
    const result = {
      cluster,
      address,
      generation,
      met: newest.revision,
      revision: state.revision,
      answered: met.answered,
      silent: met.silent,
      told,
    };
    const text = await metText(met, newest);
    print(context, result, () =>
      [
        `This host has the controller of cluster ${cluster} now, at ${address}, of generation ${generation}.`,
        text,
        `Told to ${counted(told.length, "host")}: from now on the one before is refused there, and all others hear it.`,
        "",
        "Start it, if it does not run: `systemctl enable --now overlay-ts-controller`.",
        `Take ${options.rootKey} away from this host again.`,
      ].join("\n"),
    );
  });
}

/** Who has taken over meanwhile is not known yet: a key that is forgotten at once, above all of them. */
async function scoutOf(root: Identity, cluster: ClusterId): Promise<ControllerKeys> {
  const controller = identityFromSeed(systemRandom.bytes(32));
  const claim = { cluster, controller: controller.node, generation: MAX_GENERATION };
  const certificate = await signCertificate(root, claim);
  return { controller, certificate, rootKey: root.publicKey };
}

async function readBackup(file: string): Promise<Backup> {
  let text: string;
  try {
    text = readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    throw new OverlayError(
      {
        code: "NOT_FOUND",
        message: `the backup ${file} cannot be read: ${whyUnreadable(error)}`,
        next: "give a file of `overlay-ts controller backup`, or - for stdin",
      },
      { cause: error },
    );
  }
  return parseBackup(text);
}

/** @throws NOT_FOUND */
function controllerHere(context: Context): ControllerFiles {
  const files = controllerFiles(context.dataDirectory);
  if (hasCluster(files)) return files;
  throw new OverlayError({
    code: "NOT_FOUND",
    message: "this host has no controller",
    next: "run this on the controller's host, see `overlay-ts status`; `controller restore` brings one here",
  });
}

/** The controller's host is known by the key that its agent has, or will have when it joins. */
async function ownIdentity(context: Context, cluster: ClusterId): Promise<{ node: NodeId }> {
  const files = filesOf(context);
  const membership = readMembership(files);
  if (membership !== undefined && membership.cluster !== cluster)
    throw new OverlayError({
      code: "CONFLICT",
      message: `this host is a member of cluster ${membership.cluster}, not of ${cluster}`,
      next: "do this on another host, or run `overlay-ts leave` first",
    });
  return ensureIdentity(files);
}

/** Of what this host's agent was told and what the backup holds. @throws NOT_FOUND, UNAUTHENTICATED */
async function newestKnown(
  context: Context,
  rootKey: Uint8Array,
  held: Backup | undefined,
): Promise<ClusterState> {
  const membership = readMembership(filesOf(context));
  for (const known of [membership && fromBase64Url(membership.rootKey), held?.rootPublicKey])
    if (known !== undefined && !equalBytes(known, rootKey))
      throw new OverlayError({
        code: "UNAUTHENTICATED",
        message: "the root key is of another cluster",
        next: "give the one that `overlay-ts init` made for this cluster",
      });
  const signed = membership === undefined ? [] : await signedStates(context, membership);
  const states = await Promise.all(signed.map((state) => verifySigned(rootKey, state)));
  if (held !== undefined) states.push(held.record.state);
  const [newest] = states.toSorted((a, b) => b.revision - a.revision);
  if (newest !== undefined) return newest;
  throw new OverlayError({
    code: "NOT_FOUND",
    message: "nothing here knows the cluster",
    next: "give a backup of its controller with --backup, or do this on one of its hosts",
  });
}
