import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { ClusterOutput } from "../../../agent/core/tables/cluster-output.ts";
import {
  ClusterGossip,
  ClusterSyncAnswer,
  ClusterSyncRequest,
} from "../../../agent/core/tables/cluster-messages.ts";
import { ClusterReplica } from "../../../agent/core/tables/cluster-replica.ts";
import { FOLLOWS_CHANGES } from "../../../agent/core/tables/following.ts";
import { decodeMessage } from "../../../agent/core/tables/messages.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { StateSigner } from "../../../controller/state-signer.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import type { ClusterState, SignedState } from "../../../shared/cluster-state.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { type HostDocument, hostSigningBytes } from "../../../shared/documents.ts";
import { NodeId } from "../../../shared/ids.ts";
import { Cidr } from "../../../shared/ip.ts";
import { verifySigned } from "../../../shared/node/signed-state.ts";
import { ed25519Signer, ed25519Verifier, sha256 } from "../../../shared/node/system.ts";
import { headIn } from "../../../shared/state/head.ts";
import { verifyHead } from "../../../shared/trust.ts";
import { app } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { signedCluster, signedHost } from "../../support/signed-cluster.ts";

/** Hosts of one cluster, and how the controller's state comes from one to the other. */

const cluster = await signedCluster();
const rootKey = cluster.root.publicKey;
/** Revision 1, and after it a block more with each: whole, and what the controller says to who holds the one before. */
const states: SignedState[] = [];
const changes: SignedState[] = [];
const MOST = 8;

beforeAll(async () => {
  const signer = new StateSigner(
    { controller: cluster.controller, certificate: cluster.certificate },
    sha256,
  );
  for (let revision = 1; revision <= MOST; revision++) {
    const held = changes.at(-1) && headIn(changes.at(-1)!.jws);
    states.push(await signer.sign(stateAt(revision)));
    changes.push(
      await signer.sign(
        stateAt(revision),
        held ? { held: { revision: held.revision, root: held.root } } : {},
      ),
    );
  }
});

function stateAt(revision: number): ClusterState {
  const { state, hosts } = cluster;
  const more = Array.from({ length: revision - 1 }, (_, n) => ({
    network: app.id,
    node: hosts[n % 3]!.node,
    block: Cidr.parse(`10.192.${100 + n}.0/24`),
  }));
  return { ...state, revision, blocks: [...state.blocks, ...more] };
}

/** As 0.1.0 asks. */
const ASKS_FROM_1: ClusterSyncRequest = { v: 1, kind: "fetchCluster", revision: 1, nodes: [] };

const signedAt = (revision: number): SignedState => states[revision - 1]!;

interface Host {
  readonly node: NodeId;
  readonly replica: ClusterReplica;
  readonly tables: Tables;
  /** What it told, newest last; nobody has heard it yet. */
  readonly told: Uint8Array[];
  readonly persisted: string[];
  /** Of 0.1.0: it takes the state whole, and knows nothing else. */
  readonly isOld: boolean;
}

let nowMs = 0;
let hosts: readonly Host[];
let asked: ClusterSyncRequest[];
let refused: number;

function wordOf(k: number, isOld: boolean, seq = 1): HostDocument {
  const owner = cluster.hosts[k - 1]!;
  const { signature: _, ...body } = signedHost(owner, k, seq);
  const document = { ...body, capabilities: isOld ? [] : [FOLLOWS_CHANGES] };
  const signature = ed25519Signer(owner.seed).sign(hostSigningBytes(document));
  return { ...document, signature };
}

/** Hosts 1, 2, 3 at revision 1; those of `old` are of 0.1.0. */
function start(...old: readonly number[]): void {
  const made = [1, 2, 3].map((k): Host => {
    const { node, seed } = cluster.hosts[k - 1]!;
    const tables = new Tables();
    const options = { node, syncPeriodMs: 1500, requestTimeoutMs: 1000 };
    const replica = new ClusterReplica(tables, options, {
      hasher: sha256,
      signer: ed25519Signer(seed),
      verifier: ed25519Verifier(),
      random: seededRandom(k),
      peers: () => hosts.map((host) => host.node).filter((id) => id !== node),
    });
    const words = [1, 2, 3].map((other) => wordOf(other, old.includes(other)));
    replica.restore(words, signedAt(1), stateAt(1));
    return { node, replica, tables, told: [], persisted: [], isOld: old.includes(k) };
  });
  hosts = made;
}

const at = (k: number): Host => hosts[k - 1]!;
const revisions = (): number[] => hosts.map(({ tables }) => tables.state!.revision);

async function run(host: Host, outputs: readonly ClusterOutput[]): Promise<void> {
  const { replica } = host;
  for (const output of outputs) {
    host.persisted.push(output.kind);
    if (output.kind === "publish") host.told.push(output.bytes);
    if (output.kind === "request") await answer(host, output);
    try {
      if (output.kind === "verifyState") {
        const state = await verifySigned(rootKey, output.signed);
        await run(host, replica.stateVerified(output.signed, state, nowMs));
      }
      if (output.kind === "verifyHead") {
        const head = await verifyHead(rootKey, output.signed);
        await run(host, replica.headVerified(output.from, output.signed, head, nowMs));
      }
      if (output.kind === "verifyChange") {
        const { from, signed, controllerCertificate } = output;
        const head = await verifyHead(rootKey, { jws: signed.jws, controllerCertificate });
        const whole = { ...signed, controllerCertificate };
        await run(host, replica.changeVerified(from, whole, head, nowMs));
      }
    } catch {
      refused++;
    }
  }
}

async function answer(
  host: Host,
  { id, to, bytes }: Extract<ClusterOutput, { kind: "request" }>,
): Promise<void> {
  const request = decodeMessage(ClusterSyncRequest, bytes, BOUNDS.syncMessageBytes);
  asked.push(request);
  const known =
    host.isOld && request.kind === "fetchCluster"
      ? { ...request, objects: undefined, root: undefined }
      : request;
  const peer = hosts.find(({ node }) => node === to)!;
  const heard = peer.replica.answer(
    host.node,
    decodeMessage(ClusterSyncRequest, encodeCbor(known), 1e6),
  );
  await run(host, host.replica.answered(id, encodeCbor(heard), nowMs));
}

/** By the controller, as its own host and who asked it hear it. */
async function tell(host: Host, revision: number): Promise<void> {
  const { held, needWhole } = host.replica.takesOfController();
  if (needWhole !== undefined) {
    const signed = signedAt(revision);
    const state = await verifySigned(rootKey, signed);
    await run(host, host.replica.controllerTold(signed, state, nowMs));
    return;
  }
  const from = changes.findIndex(({ jws }) => headIn(jws).root === held?.root);
  const { controllerCertificate } = cluster.signed;
  const told = changes.slice(from + 1, revision).flatMap(({ changes }) => changes ?? []);
  const headed = told.map(async (change) => {
    const signed = { ...change, controllerCertificate };
    return { signed, head: await verifyHead(rootKey, signed) };
  });
  const newest = headIn(changes[revision - 1]!.jws);
  await run(host, host.replica.changesTold(newest, await Promise.all(headed), nowMs));
}

async function hear(host: Host, from: Host, bytes: Uint8Array): Promise<void> {
  const { kind } = decodeMessage(ClusterGossip, bytes, BOUNDS.gossipMessageBytes);
  if (host.isOld && kind === "change") return;
  await run(host, host.replica.gossip(from.node, bytes, nowMs));
}

const kindsToldBy = (host: Host): string[] =>
  host.told.map((bytes) => decodeMessage(ClusterGossip, bytes, BOUNDS.gossipMessageBytes).kind);

beforeEach(() => {
  [nowMs, asked, refused] = [0, [], 0];
});

describe("when all members follow changes", () => {
  beforeEach(() => start());

  test("a block is told as less than a kilobyte, and taken with one signature, no question, one small entry on disk", async () => {
    await tell(at(1), 2);
    expect(kindsToldBy(at(1))).toEqual(["change"]);
    const [bytes] = at(1).told;
    expect(bytes!.length).toBeLessThan(1024);
    for (const k of [2, 3]) await hear(at(k), at(1), bytes!);
    expect(revisions()).toEqual([2, 2, 2]);
    expect(asked).toEqual([]);
    for (const k of [2, 3]) {
      expect(at(k).persisted).toEqual(["verifyChange", "persistChange", "changed"]);
      expect(new Set(at(k).tables.state!.blocks)).toEqual(new Set(stateAt(2).blocks));
    }
  });

  test.each([
    ["in any order", [4, 2, 3]],
    ["doubled", [2, 2, 3, 2, 4, 4]],
  ])("%s they end in the same state, and nobody is asked", async (_, order) => {
    for (const revision of [2, 3, 4]) await tell(at(1), revision);
    for (const revision of order) await hear(at(2), at(1), at(1).told[revision - 2]!);
    expect(revisions()).toEqual([4, 4, 1]);
    expect(asked).toEqual([]);
  });

  test("one that does not come is asked for after a while, and comes with those after it", async () => {
    for (const revision of [2, 3, 4]) await tell(at(1), revision);
    for (const bytes of at(1).told.slice(1)) await hear(at(2), at(1), bytes);
    expect(revisions()).toEqual([4, 1, 1]);
    const dueMs = at(2).replica.nextMs();
    nowMs = Math.max(dueMs, 300);
    await run(at(2), at(2).replica.tick(nowMs));
    expect(revisions()).toEqual([4, 4, 1]);
    expect(asked.filter(({ kind }) => kind === "fetchCluster")).toHaveLength(1);
    expect(at(2).persisted).not.toContain("persistState");
  });

  test("who holds what leads nowhere is told the head, asks for what differs, and follows from there", async () => {
    await tell(at(1), 2);
    await hear(at(2), at(1), at(1).told[0]!);
    for (const revision of [3, 4]) await tell(at(1), revision);
    for (const bytes of at(1).told.slice(1)) await hear(at(2), at(1), bytes);
    const answer = at(2).replica.answer(at(3).node, {
      v: 1,
      kind: "fetchCluster",
      revision: 1,
      nodes: [],
      objects: true,
      root: "x".repeat(43),
    });
    if (answer.kind !== "cluster" || answer.head === undefined) throw new Error("no head is told");
    const head = await verifyHead(rootKey, answer.head);
    await run(at(3), at(3).replica.headVerified(at(2).node, answer.head, head, nowMs));
    expect(asked.map(({ kind }) => kind)).toEqual(["stateHashes", "stateObjects"]);
    expect(new Set(at(3).tables.state!.blocks)).toEqual(new Set(stateAt(4).blocks));
    expect(at(3).persisted).toContain("persistState");
    // The blocks of hosts 1, 2, 3 are others, and nothing else.
    expect(at(3).replica.counters).toMatchObject({ caughtUp: 1, objects: 3, badState: 0 });
    await tell(at(1), 5);
    await hear(at(3), at(1), at(1).told.at(-1)!);
    expect(at(3).tables.state!.revision).toBe(5);
  });

  test("of a state that was held a moment ago the objects are still told, of an older one the head that is held", async () => {
    for (let revision = 2; revision <= MOST; revision++) await tell(at(1), revision);
    const rootOf = (revision: number): string => headIn(changes[revision - 1]!.jws).root;
    const answerOn = (revision: number) =>
      at(1).replica.answer(at(2).node, { v: 1, kind: "stateHashes", root: rootOf(revision) });
    expect(answerOn(MOST).kind).toBe("stateHashes");
    expect(answerOn(MOST - 4).kind).toBe("stateHashes");
    expect(answerOn(1)).toMatchObject({ kind: "stateHead", head: { jws: expect.any(String) } });
  });

  test("a true head with another's changes, or false blocks, changes nothing, and the truth is taken after it", async () => {
    for (const revision of [2, 3]) await tell(at(1), revision);
    const [two, three] = at(1).told.map((bytes) => decodeMessage(ClusterGossip, bytes, 1e6));
    if (two?.kind !== "change" || three?.kind !== "change") throw new Error("no changes were told");
    const lie = { ...two, change: { ...two.change, change: three.change.change } };
    await hear(at(2), at(3), encodeCbor(lie));
    expect(revisions()).toEqual([3, 1, 1]);
    expect(at(2).replica.counters).toMatchObject({ badState: 1, misfits: 0 });
    await hear(at(2), at(1), at(1).told[0]!);
    expect(revisions()).toEqual([3, 2, 1]);
  });

  test("a change that is not signed by the controller is refused", async () => {
    await tell(at(1), 2);
    const message = decodeMessage(ClusterGossip, at(1).told[0]!, 1e6);
    if (message.kind !== "change") throw new Error("no change was told");
    const jws = message.change.jws.replace(/.$/, "A").replace(/..$/, "BA");
    const forged = { ...message, change: { ...message.change, jws } };
    await hear(at(2), at(1), encodeCbor(forged));
    expect([refused, ...revisions()]).toEqual([1, 2, 1, 1]);
  });

  test("from a controller of 0.1.0, which says no change, it travels whole", async () => {
    const { jws, controllerCertificate } = signedAt(5);
    const whole = { jws, controllerCertificate };
    await run(at(1), at(1).replica.controllerTold(whole, stateAt(5), nowMs));
    expect(kindsToldBy(at(1))).toEqual(["state"]);
    await hear(at(2), at(1), at(1).told[0]!);
    expect(revisions()).toEqual([5, 5, 1]);
  });

  test("one whose change is not known is announced, fetched a little later, and goes on with what came early", async () => {
    await tell(at(1), 2);
    await hear(at(2), at(1), at(1).told[0]!);
    const { jws, controllerCertificate } = signedAt(4);
    await run(
      at(1),
      at(1).replica.controllerTold({ jws, controllerCertificate }, stateAt(4), nowMs),
    );
    await tell(at(1), 5);
    expect(kindsToldBy(at(1))).toEqual(["change", "stateIsThere", "change"]);
    await hear(at(2), at(1), at(1).told[2]!);
    await hear(at(2), at(1), at(1).told[1]!);
    expect(at(2).tables.state!.revision).toBe(2);
    // By another than the one who has the newest: of the fourth, whole.
    const state = await verifySigned(rootKey, signedAt(4));
    await run(at(2), at(2).replica.stateVerified({ jws, controllerCertificate }, state, nowMs));
    expect(at(2).tables.state!.revision).toBe(5);
    expect(asked).toEqual([]);
  });
});

describe("while a member is of 0.1.0", () => {
  beforeEach(() => start(3));

  test("the state travels whole, as it did, and every host keeps it as that one takes it", async () => {
    expect(at(1).replica.needWhole()).toEqual([at(3).node]);
    await tell(at(1), 2);
    expect(kindsToldBy(at(1))).toEqual(["state"]);
    for (const k of [2, 3]) await hear(at(k), at(1), at(1).told[0]!);
    expect(revisions()).toEqual([2, 2, 2]);
    expect(at(2).replica.answer(at(3).node, ASKS_FROM_1)).toMatchObject({
      state: { jws: signedAt(2).jws },
    });
  });

  test("when it says that it follows, changes travel from the next one on", async () => {
    await tell(at(1), 2);
    for (const k of [2, 3]) await hear(at(k), at(1), at(1).told[0]!);
    const word = encodeCbor({ v: 1, kind: "host", document: wordOf(3, false, 2) });
    for (const k of [1, 2]) await hear(at(k), at(3), word);
    await tell(at(1), 3);
    expect(kindsToldBy(at(1))).toEqual(["state", "change"]);
    await hear(at(2), at(1), at(1).told[1]!);
    expect(at(2).tables.state!.revision).toBe(3);
  });
});

describe("when a member is put back to 0.1.0", () => {
  beforeEach(() => start());

  test("who has the state whole tells it, all keep it, and whoever the old one asks can give it", async () => {
    await tell(at(1), 2);
    await hear(at(2), at(1), at(1).told[0]!);
    expect(ClusterSyncAnswer.parse(at(2).replica.answer(at(3).node, ASKS_FROM_1))).toEqual({
      v: 1,
      kind: "cluster",
      hosts: [],
    });
    const word = encodeCbor({ v: 1, kind: "host", document: wordOf(3, true, 2) });
    for (const k of [2, 1]) await hear(at(k), at(3), word);
    // Beside the controller it is asked for: nobody needed it so before.
    expect([at(1), at(2)].map(({ replica }) => replica.lacksWhole())).toEqual([true, true]);
    expect(at(1).replica.takesOfController()).toMatchObject({ needWhole: [at(3).node] });
    await run(at(1), at(1).replica.controllerTold(signedAt(2), stateAt(2), nowMs));
    expect(at(1).replica.lacksWhole()).toBe(false);
    expect(kindsToldBy(at(1))).toEqual(["change", "state"]);
    await hear(at(2), at(1), at(1).told[1]!);
    expect(at(2).replica.answer(at(3).node, ASKS_FROM_1)).toMatchObject({
      state: { jws: signedAt(2).jws },
    });
    // The next one travels whole.
    await tell(at(1), 3);
    expect(kindsToldBy(at(1)).at(-1)).toBe("state");
  });
});

test("of many changes at once the newest are told, and who is further behind asks", async () => {
  start();
  await tell(at(1), MOST);
  expect(kindsToldBy(at(1))).toHaveLength(MOST - 1);
  await hear(at(2), at(1), at(1).told.at(-1)!);
  nowMs = at(2).replica.nextMs();
  await run(at(2), at(2).replica.tick(Math.max(nowMs, 300)));
  expect(revisions()).toEqual([MOST, MOST, 1]);
});

test("who has not been heard yet does not turn it back: what it says of itself comes with its first words", async () => {
  start();
  const stranger = { ...cluster.state.nodes[2]!, id: NodeId.parse(`12D3Koo${"2".repeat(45)}`) };
  const state = { ...stateAt(2), nodes: [...stateAt(2).nodes, stranger] };
  await run(at(1), at(1).replica.controllerTold(signedAt(2), state, nowMs));
  expect(at(1).replica.needWhole()).toEqual([]);
});

test("a start goes on from the changes on disk, up to the first that is lost", async () => {
  start();
  for (let revision = 2; revision <= MOST; revision++) {
    await tell(at(1), revision);
    await hear(at(2), at(1), at(1).told.at(-1)!);
  }
  const { state, changes } = at(2).replica.signed();
  expect([state!.jws, changes.length]).toEqual([signedAt(1).jws, MOST - 1]);
  const { node, seed } = cluster.hosts[1];
  const startedWith = (kept: typeof changes): Tables => {
    const tables = new Tables();
    const replica = new ClusterReplica(
      tables,
      { node, syncPeriodMs: 1500, requestTimeoutMs: 1000 },
      {
        hasher: sha256,
        signer: ed25519Signer(seed),
        verifier: ed25519Verifier(),
        random: seededRandom(1),
        peers: () => [],
      },
    );
    replica.restore([], signedAt(1), stateAt(1), kept);
    return tables;
  };
  expect(startedWith(changes).state).toEqual(at(2).tables.state);
  // One that was lost on disk: what stands before it holds.
  expect(startedWith(changes.toSpliced(2, 1)).state!.revision).toBe(3);
});
