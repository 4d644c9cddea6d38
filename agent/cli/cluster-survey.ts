import { setTimeout as delay } from "node:timers/promises";
import { BOUNDS } from "../../shared/bounds.ts";
import type {
  ClusterState,
  SignedHead,
  SignedNodeClaim,
  SignedState,
} from "../../shared/cluster-state.ts";
import { encodeCbor } from "../../shared/codec.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import { type Identity, identityFromSeed } from "../../shared/node/identity.ts";
import { sha256, systemRandom } from "../../shared/node/system.ts";
import { answerTo, CatchUp } from "../../shared/state/catch-up.ts";
import { compareHeads, headIn, rootText, type StatePoint } from "../../shared/state/head.ts";
import type { HeldState } from "../../shared/state/held-state.ts";
import { ObjectTree } from "../../shared/state/object-tree.ts";
import { objectsOf } from "../../shared/state/objects.ts";
import { encodeContent, heldUnder } from "../../shared/state/whole.ts";
import { revisionOf } from "../../shared/revision.ts";
import { type KeyPair, signClaim } from "../../shared/trust.ts";
import { Semaphore } from "../../shared/node/semaphore.ts";
import {
  type ClusterGossip,
  ClusterSyncAnswer,
  ClusterSyncRequest,
} from "../core/tables/cluster-messages.ts";
import {
  answerOf,
  MOST_ANSWER_BYTES,
  questionOf,
  requestOf,
  taken,
} from "../core/tables/state-catch-up.ts";
import { decodeMessage } from "../core/tables/messages.ts";
import type { Mesh, MeshHandlers } from "../replication/gossip/port.ts";
import { CLUSTER_TOPIC, FOR_CLUSTER, requestFor } from "../replication/request-kinds.ts";

/** All that answer do so within a second or two; a host that is down does not answer at all. */
const MEET_MS = 10_000;
const TELL_MS = 10_000;
const REQUEST_MS = 5000;
const AGAIN_MS = 200;
/** A state may have megabytes: most hosts are asked when one of them has told the newest. */
const ASKED_AT_ONCE = 8;
/** Of the changes of a generation: newer than any state, so that hosts believe the controller's word. */
const NEWEST_CHANGES = 2 ** 32 - 1;

export interface Met {
  /** The newest state that holds, by whomever; undefined: nobody has a newer one than was known. */
  readonly newest: { readonly signed: SignedState; readonly state: ClusterState } | undefined;
  readonly answered: readonly NodeId[];
  /** Hosts of the newest state that did not answer. */
  readonly silent: readonly NodeId[];
}

interface Told {
  readonly signed: SignedState;
  readonly revision: number;
  /** When it is told as objects. */
  readonly held: HeldState | undefined;
}

/** Of one host, for the objects of its state: a newer head on the way is followed. */
const MOST_QUESTIONS = 64;

/**
 * A member for some moments, by a controller's own word for it: asks all hosts for the newest state that
 * they hold, and tells them a newer one. So a controller meets its hosts also without an agent beside it.
 */
export class ClusterSurvey {
  readonly #mesh: Mesh;
  readonly #verify: (signed: SignedState) => Promise<ClusterState>;
  readonly #known: ClusterState;
  readonly #asking = new Semaphore(ASKED_AT_ONCE);
  readonly #answered = new Set<NodeId>();
  #newest: Met["newest"];
  #told: Told | undefined;
  readonly #heardOf = new Set<string>();
  #progress = (): void => {};
  /** What is known already, and need not be told. */
  #base: ObjectTree | undefined;

  /** `known`: where hosts were when last known. `verify` throws unless the state is of this cluster. */
  constructor(
    mesh: Mesh,
    known: ClusterState,
    verify: (signed: SignedState) => Promise<ClusterState>,
  ) {
    this.#mesh = mesh;
    this.#known = known;
    this.#verify = verify;
  }

  /** All hosts, or who answers within `timeoutMs`. */
  async meet(timeoutMs = MEET_MS): Promise<Met> {
    const handlers: MeshHandlers = {
      message: () => {},
      request: (_from, bytes) => Promise.resolve(this.#answer(bytes)),
      connected: (node) => void this.#asking.run(() => this.#ask(node)),
      disconnected: () => {},
    };
    await this.#mesh.start(handlers);
    await this.#mesh.join(CLUSTER_TOPIC, undefined);
    const everyone = new Promise<void>((resolve) => {
      this.#progress = () => {
        if (this.#silent().length === 0) resolve();
      };
    });
    this.#dial();
    this.#progress();
    const over = new AbortController();
    await Promise.race([
      everyone,
      delay(timeoutMs, undefined, { signal: over.signal }).catch(() => {}),
    ]);
    over.abort();
    return { newest: this.#newest, answered: [...this.#answered], silent: this.#silent() };
  }

  /** Resolves to who holds it, when all that are connected do, or after some seconds. */
  async tell(signed: SignedState, revision: number, timeoutMs = TELL_MS): Promise<NodeId[]> {
    const { jws, content } = signed;
    const held = content === undefined ? undefined : heldUnder(headIn(jws), content, sha256);
    this.#told = { signed, revision, held };
    const news: ClusterGossip = { v: 1, kind: "stateIsThere", revision };
    const untilMs = performance.now() + timeoutMs;
    const holding = new Set<NodeId>();
    for (;;) {
      await this.#mesh.publish(CLUSTER_TOPIC, encodeCbor(news)).catch(() => {});
      const others = this.#mesh.connections().filter((node) => !holding.has(node));
      const held = await Promise.all(others.map((node) => this.#revisionOf(node)));
      for (const [i, node] of others.entries()) if ((held[i] ?? 0) >= revision) holding.add(node);
      const all = this.#mesh.connections().every((node) => holding.has(node));
      if (all || performance.now() > untilMs) return [...holding];
      await delay(AGAIN_MS);
    }
  }

  stop(): Promise<void> {
    return this.#mesh.stop();
  }

  /** Hosts that came since are in newer states only. */
  #hosts(): ClusterState["nodes"] {
    return (this.#newest?.state ?? this.#known).nodes;
  }

  #silent(): NodeId[] {
    return this.#hosts()
      .map(({ id }) => id)
      .filter((id) => !this.#answered.has(id));
  }

  #dial(): void {
    const port = this.#known.settings.ports.gossip;
    this.#mesh.wantPeers(this.#hosts().map(({ id, address }) => ({ node: id, address, port })));
  }

  async #ask(node: NodeId): Promise<void> {
    const known = this.#newest?.state ?? this.#known;
    try {
      const answer = await this.#request(node, {
        v: 1,
        kind: "fetchCluster",
        // Of the same revision there may be two states.
        revision: Math.max(0, known.revision - 1),
        nodes: [],
        objects: true,
      });
      if (answer.kind === "cluster" && answer.state !== undefined) await this.#heard(answer.state);
      if (answer.kind === "cluster" && answer.head !== undefined && !isHeadOf(known, answer.head))
        await this.#heard(await this.#objectsOf(node, answer.head));
      this.#answered.add(node);
    } catch {
      // It counts as silent; connected again it is asked again.
    }
    this.#progress();
  }

  /** What the host has under that head, or under a newer one that it has by then. Whether it holds is asked of all of it. */
  async #objectsOf(node: NodeId, told: SignedHead): Promise<SignedState> {
    let signed = told;
    this.#base ??= ObjectTree.of(objectsOf(this.#known), sha256);
    const head = headIn(signed.jws);
    const way = new CatchUp({ head, objects: this.#base }, head, sha256);
    for (let asked = 0; asked < MOST_QUESTIONS; asked++) {
      const question = way.next();
      const held = way.result();
      if (held !== undefined) return { ...signed, content: encodeContent(held.objects) };
      if (question === undefined) break;
      const answer = await this.#request(node, requestOf(question, way.head.root));
      if (answer.kind === "stateHead" && answer.head !== undefined) {
        signed = answer.head;
        way.towards(headIn(signed.jws));
      } else if (answer.kind !== "stateHashes" && answer.kind !== "stateObjects") break;
      else if (!way.take(taken(answer))) break;
    }
    throw new OverlayError({
      code: "UNAUTHENTICATED",
      message: `host ${node} does not tell what its state's head is over`,
      next: "nothing needs to be done: another host's state is taken",
    });
  }

  async #heard(signed: SignedState): Promise<void> {
    // Most hosts have the same.
    if (this.#heardOf.has(signed.jws)) return;
    const state = await this.#verify(signed);
    this.#heardOf.add(signed.jws);
    const known = this.#newest?.state ?? this.#known;
    if (compareHeads(pointOf(state), pointOf(known)) <= 0) return;
    this.#newest = { signed, state };
    this.#dial();
  }

  async #revisionOf(node: NodeId): Promise<number> {
    const revision = this.#told?.revision ?? 0;
    const hash = new Uint8Array(32);
    const request = { v: 1, kind: "compareCluster", revision, hash } as const;
    const answer = await this.#request(node, request).catch(() => undefined);
    return answer?.kind === "clusterDigest" ? answer.revision : 0;
  }

  async #request(node: NodeId, request: ClusterSyncRequest): Promise<ClusterSyncAnswer> {
    const bytes = requestFor(FOR_CLUSTER, encodeCbor(request));
    const answer = await this.#mesh.request(node, bytes, REQUEST_MS);
    return decodeMessage(ClusterSyncAnswer, answer, BOUNDS.syncMessageBytes);
  }

  /**
   * The state, to who holds an older one. Nobody else is answered: of hosts this one knows nothing, and
   * who compared with it would take itself for in sync. @throws FORBIDDEN
   */
  #answer(bytes: Uint8Array): Uint8Array {
    const body = bytes.subarray(1);
    const told = this.#told;
    const request =
      bytes[0] === FOR_CLUSTER
        ? decodeMessage(ClusterSyncRequest, body, BOUNDS.syncMessageBytes)
        : undefined;
    const isNews = told !== undefined && request !== undefined && isOfOlder(request, told.revision);
    if (!isNews)
      throw new OverlayError({
        code: "FORBIDDEN",
        message: "nothing is told here",
        next: "ask a host of the cluster",
      });
    return encodeCbor(answered(request, told));
  }
}

function isOfOlder(request: ClusterSyncRequest, revision: number): boolean {
  return "revision" in request ? request.revision < revision : true;
}

function answered(
  request: ClusterSyncRequest,
  { signed, revision, held }: Told,
): ClusterSyncAnswer {
  const { jws, controllerCertificate } = signed;
  const head = { jws, controllerCertificate };
  switch (request.kind) {
    case "compareCluster":
      return { v: 1, kind: "clusterDigest", revision, digest: [] };
    case "fetchCluster":
      return { v: 1, kind: "cluster", hosts: [], ...(held ? { head } : { state: signed }) };
    case "stateHashes":
    case "stateObjects":
      return held?.head.root === request.root
        ? answerOf(answerTo(questionOf(request), held, MOST_ANSWER_BYTES))
        : { v: 1, kind: "stateHead", head };
  }
}

function isHeadOf(state: ClusterState, { jws }: SignedHead): boolean {
  return compareHeads(headIn(jws), pointOf(state)) === 0;
}

const points = new WeakMap<ClusterState, StatePoint>();

function pointOf(state: ClusterState): StatePoint {
  const { revision } = state;
  const point = points.get(state) ?? {
    revision,
    root: rootText(ObjectTree.of(objectsOf(state), sha256)),
  };
  points.set(state, point);
  return point;
}

/** What a controller says of whom it sends to meet the hosts: a key of the moment, newer than all they know. */
export async function messenger(
  { controller, certificate }: { controller: KeyPair; certificate: string },
  generation: number,
  { cluster, controller: { address } }: ClusterState,
): Promise<{ identity: Identity; claim: SignedNodeClaim; listen: { address: Ip; port: number } }> {
  const identity = identityFromSeed(systemRandom.bytes(32));
  const claim = await signClaim(controller, certificate, {
    cluster,
    revision: revisionOf(generation, NEWEST_CHANGES),
    node: {
      id: identity.node,
      name: "controller",
      index: 1,
      address,
      vtep: address,
      underlayMtuBytes: 1500,
      ownSubnets: [],
      sealKey: "",
      joinedAtMs: 0,
    },
  });
  // It dials, and nobody dials it.
  const loopback = Ip.parse(address.includes(":") ? "::1" : "127.0.0.1");
  return { identity, claim, listen: { address: loopback, port: 0 } };
}
