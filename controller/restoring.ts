import type { ClusterState, SignedState } from "../shared/cluster-state.ts";
import { OverlayError } from "../shared/errors.ts";
import type { NodeId } from "../shared/ids.ts";
import { familyOf, type Ip } from "../shared/ip.ts";
import { identityFromSeed } from "../shared/node/identity.ts";
import { sha256, systemClock, systemRandom } from "../shared/node/system.ts";
import { signClaim } from "../shared/trust.ts";
import type { Backup } from "./backup.ts";
import type { ControllerKeys } from "./controller.ts";
import type { ControllerRecord } from "./core/record.ts";
import { QUARANTINE_MS, released } from "./core/quarantine.ts";
import { type AddressFacts, readdressNode } from "./core/readdress.ts";
import { recovered } from "./core/recovery.ts";
import { standingOf } from "./core/standing.ts";
import { type ControllerFiles, readKeys, refuseSecond, writeController } from "./files.ts";
import { recordOf, rowChanges } from "./record-rows.ts";
import { signForAll } from "./state-signer.ts";
import { SqliteStore } from "./store/sqlite-store.ts";
import type { AnswerOf } from "./wire/messages.ts";

/** What brings a controller's data away from its host and back; each is done by a command, as root. */

/** Consistent at any moment, also beside a controller that runs: it is read in one transaction. @throws NOT_FOUND, STORE */
export async function backUp(files: ControllerFiles): Promise<Backup> {
  const { rootKey, certificate, peer } = await readKeys(files);
  return {
    madeAtMs: systemClock.wallMs(),
    rootPublicKey: rootKey,
    controllerSeed: peer.seed,
    certificate,
    record: await storedRecord(files),
  };
}

export interface Place {
  readonly node: NodeId;
  /** Undefined: where it was. */
  readonly address: Ip | undefined;
}

/**
 * The backup's controller is this host's, and decides nothing before it has met the hosts.
 * @throws CONFLICT when there is a controller, INVALID
 */
export async function restore(
  files: ControllerFiles,
  backup: Backup,
  { node, address }: Place,
): Promise<ControllerRecord> {
  refuseSecond(
    files,
    `\`overlay-ts controller recover --from-mesh\` brings what it has up to date; to replace it, move ${files.directory} away first`,
  );
  const { state } = backup.record;
  if (address !== undefined) checkFamily(state, address);
  const record: ControllerRecord = {
    ...backup.record,
    restoredAtMs: systemClock.wallMs(),
    state: {
      ...state,
      controller: {
        node,
        address: address ?? state.controller.address,
        peerId: identityFromSeed(backup.controllerSeed).node,
      },
    },
  };
  await writeController(files, { ...backup, record });
  return record;
}

export interface Recovered {
  readonly before: ClusterState;
  readonly after: ClusterState;
  /** To be told to hosts. */
  readonly signed: SignedState;
  /** Ids of networks whose key is another now. */
  readonly newKeys: readonly string[];
}

/**
 * The stored record after it has met `met`, beside a controller that may run.
 * @throws STALE when another controller writes at the same time
 */
export async function recover(
  files: ControllerFiles,
  { controller, certificate }: ControllerKeys,
  met: ClusterState | undefined,
): Promise<Recovered> {
  return withStore(files, async (store) => {
    const { version, record } = await readRecord(store);
    const context = { wallMs: systemClock.wallMs(), random: systemRandom };
    const next = recovered(record, met, context);
    await replace(store, { version, record }, next);
    const { state, networkKeys } = next;
    return {
      before: record.state,
      after: state,
      signed: await signForAll({ controller, certificate }, state, sha256),
      newKeys: state.networks
        .map(({ id }) => id)
        .filter((id) => networkKeys[id] !== record.networkKeys[id]),
    };
  });
}

export async function storedRecord(files: ControllerFiles): Promise<ControllerRecord> {
  return withStore(files, async (store) => (await readRecord(store)).record);
}

/**
 * The member on this host, and the controller with it, are at another address: by the record beside a controller
 * that may run, and that nobody can ask now. @throws as `readdressNode`; STALE
 */
export async function readdressHere(
  files: ControllerFiles,
  { controller, certificate, rootKey }: ControllerKeys,
  node: NodeId,
  facts: AddressFacts,
): Promise<Pick<AnswerOf<"joined">, "rootKey" | "claim" | "state">> {
  return withStore(files, async (store) => {
    const { version, record } = await readRecord(store);
    const problem = standingOf(record, undefined);
    if (problem !== undefined) throw new OverlayError(problem);
    const wallMs = systemClock.wallMs();
    const moved = readdressNode(released(record, wallMs), node, facts, wallMs + QUARANTINE_MS);
    if (moved.record !== record) await replace(store, { version, record }, moved.record);
    const { state } = moved.record;
    const claim = { cluster: state.cluster, revision: state.revision, node: moved.result };
    return {
      rootKey,
      claim: await signClaim(controller, certificate, claim),
      state: await signForAll({ controller, certificate }, state, sha256),
    };
  });
}

/** All hosts talk one family; the controller's address is one of it. @throws INVALID */
export function checkFamily({ settings }: ClusterState, address: Ip): void {
  if (familyOf(address) !== settings.underlayFamily)
    throw new OverlayError({
      code: "INVALID",
      message: `${address} is not an IPv${settings.underlayFamily} address; the cluster's hosts talk IPv${settings.underlayFamily}`,
      next: "give one with --address",
    });
}

async function readRecord(
  store: SqliteStore,
): Promise<{ version: number; record: ControllerRecord }> {
  const stored = await store.read();
  if (stored === undefined)
    throw new OverlayError({
      code: "STORE",
      message: "the controller's database is empty",
      next: "move the directory away and restore a backup",
    });
  return { version: stored.version, record: recordOf(stored.rows) };
}

async function replace(
  store: SqliteStore,
  { version, record }: { version: number; record: ControllerRecord },
  next: ControllerRecord,
): Promise<void> {
  if (await store.write(version, rowChanges(record, next))) return;
  throw new OverlayError({
    code: "STALE",
    message: "the controller's data changed at the same moment",
    next: "run the command again",
  });
}

async function withStore<T>(
  files: ControllerFiles,
  run: (store: SqliteStore) => Promise<T>,
): Promise<T> {
  const store = new SqliteStore(files.database);
  try {
    return await run(store);
  } finally {
    store.close();
  }
}
