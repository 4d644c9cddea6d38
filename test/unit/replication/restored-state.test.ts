import { beforeAll, beforeEach, expect, test } from "vitest";
import { newestOf } from "../../../agent/cli/signed-states.ts";
import { restoredTables } from "../../../agent/replication/restore-tables.ts";
import { SavedTables } from "../../../agent/replication/saved-tables.ts";
import { checkTables } from "../../../agent/replication/verify-tables.ts";
import { FollowedState, type HeadedChange } from "../../../agent/core/tables/followed-state.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import { StateSigner } from "../../../controller/state-signer.ts";
import type { SignedState } from "../../../shared/cluster-state.ts";
import { verifySigned } from "../../../shared/node/signed-state.ts";
import { ed25519Verifier, sha256 } from "../../../shared/node/system.ts";
import { headIn } from "../../../shared/state/head.ts";
import { verifyHead } from "../../../shared/trust.ts";
import { signedCluster } from "../../support/signed-cluster.ts";

/** What a host finds of the state on its disk: the whole, objects under a head, changes after either. */

const cluster = await signedCluster();
const rootKey = cluster.root.publicKey;
const LAST = 5;
const states: SignedState[] = [];
const changes: HeadedChange[] = [];

beforeAll(async () => {
  const keys = { controller: cluster.controller, certificate: cluster.certificate };
  const signer = new StateSigner(keys, sha256);
  let first: SignedState | undefined;
  for (let revision = 1; revision <= LAST; revision++) {
    const revoked = cluster.hosts.slice(0, revision % 3).map(({ node }) => node);
    const state = { ...cluster.state, revision, revoked };
    states.push(await signer.sign(state));
    const held = changes.at(-1)?.head ?? (first && headIn(first.jws));
    const objects = await signer.sign(state, held ? { held } : {});
    first ??= objects;
    for (const change of objects.changes ?? []) {
      const whole = { ...change, controllerCertificate: cluster.certificate };
      changes.push({ signed: whole, head: await verifyHead(rootKey, whole) });
    }
  }
});

let store: MemoryStore;
let saved: SavedTables;

beforeEach(() => {
  store = new MemoryStore();
  saved = new SavedTables(new Disk(store));
});

function wholeAt(revision: number): SignedState {
  const { jws, controllerCertificate } = states[revision - 1]!;
  return { jws, controllerCertificate };
}

async function restored(): Promise<number> {
  const { signed, state, changes } = await restoredTables(
    {
      saved,
      hasher: sha256,
      verifier: ed25519Verifier(),
      verifyState: (signed) => verifySigned(rootKey, signed),
      verifyHead: (signed) => verifyHead(rootKey, signed),
    },
    // As the controller answers who joins.
    states[0]!,
  );
  return (await followed(signed, state.revision, changes)).revision;
}

async function followed(signed: SignedState, revision: number, all: readonly HeadedChange[]) {
  const followed = new FollowedState(sha256);
  let state = await verifySigned(rootKey, signed);
  expect(state.revision).toBe(revision);
  followed.whole(signed, state);
  for (const change of all) {
    const next = followed.follow(change);
    if (next.kind === "followed") ({ state } = next);
  }
  return { followed, revision: state.revision };
}

/** Up to this revision, as one proof. */
async function objectsAt(revision: number): Promise<SignedState> {
  const all = changes.slice(0, revision - 1);
  return (await followed(wholeAt(1), 1, all)).followed.proof()!;
}

function saveChanges(from: number, to: number): void {
  for (const { head, signed } of changes)
    if (head.revision >= from && head.revision <= to) saved.saveChange(head.revision, signed);
}

test("the whole and the changes after it", async () => {
  saved.saveState(wholeAt(2));
  saveChanges(3, LAST);
  expect(await restored()).toBe(LAST);
});

test("objects under a head, and the changes after them; the whole before them stays for 0.1.0", async () => {
  saved.saveState(wholeAt(2));
  saveChanges(3, 4);
  saved.saveState(await objectsAt(4));
  expect(saved.changes()).toEqual([]);
  saveChanges(5, 5);
  expect(await restored()).toBe(LAST);
  saved.loseState("it is damaged");
  expect(saved.state()).toEqual(wholeAt(2));
});

test("a whole is in the place of all that was before it", async () => {
  saved.saveState(await objectsAt(3));
  saveChanges(4, 4);
  saved.saveState(wholeAt(5));
  expect([saved.state(), saved.changes()]).toEqual([wholeAt(5), []]);
});

test("objects that are not the head's are lost, and the whole before them holds", async () => {
  saved.saveState(wholeAt(2));
  const [objects, other] = [await objectsAt(4), await objectsAt(3)];
  saved.saveState({ ...objects, content: other.content! });
  expect(await restored()).toBe(2);
  expect(saved.state()).toEqual(wholeAt(2));
});

test("a change that was not signed is lost, and the state stands before it", async () => {
  saved.saveState(wholeAt(1));
  saveChanges(2, LAST);
  const [, , third] = changes;
  saved.saveChange(3, { ...third!.signed, jws: third!.signed.jws.replace(/.{8}$/, "AAAAAAAA") });
  expect(await restored()).toBe(2);
  expect(saved.changes().map(([revision]) => revision)).toEqual([2, 4, 5]);
});

test("`verify` finds nothing at what the joining brought", async () => {
  saved.saveState(states[2]!);
  expect(await restored()).toBe(3);
  expect(saved.hasState(wholeAt(3))).toBe(true);
});

test("`verify` finds a change that the disk has not, and writes it again", async () => {
  saved.saveState(wholeAt(1));
  saveChanges(2, 3);
  const { followed: held } = await followed(wholeAt(1), 1, changes);
  const faults = () =>
    checkTables({
      saved,
      self: cluster.hosts[0].node,
      tables: new Tables(),
      signed: held.signed(),
      hasher: sha256,
      verifier: ed25519Verifier(),
      differing: () => [],
    });
  expect(faults()).toHaveLength(1);
  expect(faults()).toEqual([]);
  expect(await restored()).toBe(LAST);
});

test("a command beside the agent finds the newest on disk: the state with the changes after it", async () => {
  expect(await newestOf(saved, rootKey)).toBeUndefined();
  saved.saveState(wholeAt(2));
  expect(await newestOf(saved, rootKey)).toEqual(wholeAt(2));
  saveChanges(3, LAST);
  expect(await verifySigned(rootKey, (await newestOf(saved, rootKey))!)).toMatchObject({
    revision: LAST,
  });
  const [, , fourth] = changes;
  saved.saveChange(4, { ...fourth!.signed, jws: fourth!.signed.jws.replace(/.{8}$/, "AAAAAAAA") });
  expect(await verifySigned(rootKey, (await newestOf(saved, rootKey))!)).toMatchObject({
    revision: 3,
  });
});
