import { decode } from "cborg";
import { encodeCbor } from "../../../shared/codec.ts";
import type { SignedHead } from "../../../shared/cluster-state.ts";
import { sha256 } from "../../../shared/node/system.ts";
import type { Random } from "../../../shared/ports.ts";
import { answerTo } from "../../../shared/state/catch-up.ts";
import { headOf, rootText, type StateHead } from "../../../shared/state/head.ts";
import { type HeldState, heldState } from "../../../shared/state/held-state.ts";
import { BUCKETS, differing, ObjectTree } from "../../../shared/state/object-tree.ts";
import { objectsOf } from "../../../shared/state/objects.ts";
import type { ClusterSyncAnswer } from "../../../agent/core/tables/cluster-messages.ts";
import type { ClusterOutput } from "../../../agent/core/tables/cluster-output.ts";
import { answerOf } from "../../../agent/core/tables/state-catch-up.ts";
import { app, clusterState } from "../../support/cluster.ts";
import { type SignedCluster, signedCluster } from "../../support/signed-cluster.ts";
import { hold, type Target } from "../target.ts";
import { clusterReplicaOf, type MadeClusterReplica } from "./cluster-gossip.ts";

const AT_MS = 20_000;
/** Who was asked has not answered until then. */
const SILENT_MS = AT_MS + 60_000;
/** Its signature is checked elsewhere (`signed-state`): here it holds. */
const SIGNED: SignedHead = { jws: "head", controllerCertificate: "" };

/** It is to be verified, and gone on to. */
const ANOTHER_HEAD = "another head";

/**
 * What a peer answers to a host that asks for the objects of a newer head: hashes of buckets, objects, another head. Whatever
 * comes, all of the head's objects are there at the end, or what was held stays as it was. Where objects are others and the
 * buckets' hashes and the head are made of them, the controller has signed what perhaps nobody can read.
 */
export async function stateCatchUp(): Promise<Target> {
  const cluster = await signedCluster();
  const next = nextOf(cluster);
  const asked = asksFor(next, cluster);
  let made = clusterReplicaOf(cluster);
  const begun = { state: made.tables.state };
  return {
    decoder: "ClusterReplica.answered, of a state's objects",
    recorded: [
      answerOf(answerTo({ kind: "hashes" }, next, Infinity)),
      answerOf(answerTo({ kind: "objects", buckets: asked }, next, Infinity)),
      ...asked.map((index) => answerOf(answerTo({ kind: "objects", buckets: [index] }, next, 1))),
      { v: 1, kind: "stateHead", head: SIGNED } satisfies ClusterSyncAnswer,
      { v: 1, kind: "stateHead" } satisfies ClusterSyncAnswer,
    ].map((answer) => encodeCbor(answer)),
    form: "cbor",
    dress: signedAsItIs,
    feed: (input) => {
      const head = headFor(input, next, cluster) ?? next;
      const outcome = exchange(made, head, input);
      const { state } = made.tables;
      const isOver = state === begun.state && outcome !== ANOTHER_HEAD;
      if (isOver) return outcome;
      made = clusterReplicaOf(cluster);
      if (state === begun.state) return void (begun.state = made.tables.state);
      begun.state = made.tables.state;
      hold(state?.revision === head.head.revision, "a state of no head");
      const objects = ObjectTree.of(objectsOf(state), sha256);
      const known = [...head.objects.entries()].filter(([key]) => objects.get(key) !== undefined);
      hold(known.length === [...objects.entries()].length, "an object that is none of the head's");
      return undefined;
    },
  };
}

/** A network and a block more, and a host whose name is another. */
function nextOf({ state }: SignedCluster): HeldState {
  const [first, ...others] = state.nodes;
  const web = {
    ...app,
    id: "0c".repeat(16) as typeof app.id,
    name: "web",
    vni: (app.vni + 1) as typeof app.vni,
  };
  const [block] = clusterState(1).blocks;
  return held({
    ...state,
    revision: state.revision + 1,
    nodes: [{ ...first!, name: "renamed" }, ...others],
    networks: [...state.networks, web],
    blocks: [...state.blocks, { ...block!, network: web.id, node: first!.id }],
  });
}

function held(state: SignedCluster["state"]): HeldState {
  const objects = ObjectTree.of(objectsOf(state), sha256);
  return heldState(headOf(state, objects), objects)!;
}

function asksFor({ objects }: HeldState, { state }: SignedCluster): number[] {
  return differing(held(state).objects.bucketHashes(), objects.bucketHashes());
}

/** The host hears of the head, asks for its hashes, and for its objects; the input is the answer to one of the two. */
function exchange(
  { replica, tables }: MadeClusterReplica,
  { head, objects }: HeldState,
  input: Uint8Array,
): string {
  const { state } = tables;
  const peer = state!.nodes[1]!.id;
  const idOf = (outputs: readonly ClusterOutput[]): number | undefined =>
    outputs.flatMap((output) => (output.kind === "request" ? [output.id] : []))[0];
  const first = idOf(replica.headVerified(peer, SIGNED, head, AT_MS));
  hold(first !== undefined, "a newer head is asked for");
  const kind = kindOf(input);
  const before = { ...replica.counters };
  const atOnce = kind === "stateObjects";
  const hashes = encodeCbor(answerOf({ kind: "hashes", hashes: objects.bucketHashes() }));
  let outputs = replica.answered(first, atOnce ? hashes : input, AT_MS);
  for (let asked = idOf(outputs), n = 0; asked !== undefined; asked = idOf(outputs)) {
    hold(++n < 20, "an exchange that does not end");
    outputs = atOnce ? replica.answered(asked, input, AT_MS) : replica.requestFailed(asked, AT_MS);
  }
  // What cannot be read is no answer.
  replica.tick(SILENT_MS);
  if (outputs.some((output) => output.kind === "verifyHead")) return ANOTHER_HEAD;
  if (replica.counters.malformed > before.malformed) return "malformed";
  if (replica.counters.badState > before.badState) return "not the head's";
  return kind === "stateObjects" ? "not all" : "no objects";
}

function kindOf(input: Uint8Array): unknown {
  try {
    return (decode(input) as { kind?: unknown } | null)?.kind;
  } catch {
    return undefined;
  }
}

/** Of objects that are others than the next state's: the head of a state that has them. Undefined: they are that state's, or none. */
function headFor(
  input: Uint8Array,
  next: HeldState,
  { state }: SignedCluster,
): HeldState | undefined {
  if (kindOf(input) !== "stateObjects") return undefined;
  try {
    const { buckets, signs } = decode(input) as {
      buckets: [number, [string, Uint8Array][]][];
      signs?: boolean;
    };
    if (signs !== true) return undefined;
    const own = held(state).objects;
    const others = buckets.filter(([index]) => index >= 0 && index < BUCKETS);
    const put = new Map(others.map(([index, entries]) => [index, new Map(entries)] as const));
    const objects = own.withBuckets(put);
    // Each in its own bucket: a controller builds no other tree.
    const again = ObjectTree.of(objects.entries(), sha256);
    if (rootText(again) !== rootText(objects)) return undefined;
    const head: StateHead = headOf({ ...state, revision: next.head.revision }, objects);
    return { head, objects };
  } catch {
    return undefined;
  }
}

/** A field that nobody reads says that the head is made of these objects. */
function signedAsItIs(input: Uint8Array, random: Random): Uint8Array {
  if (kindOf(input) !== "stateObjects" || random.below(2) === 0) return input;
  try {
    return encodeCbor({ ...(decode(input) as object), signs: true });
  } catch {
    // Read as what cannot be written.
    return input;
  }
}
