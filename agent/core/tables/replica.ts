import { BOUNDS } from "../../../shared/bounds.ts";
import { encodeCbor, equalBytes } from "../../../shared/codec.ts";
import { documentHash, type Endpoint, type NetworkDocument } from "../../../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Hasher, Random, Signer, Verifier } from "../../../shared/ports.ts";
import {
  decodeMessage,
  tryDecode,
  type Digest,
  encodeMessage,
  GossipMessage,
  SyncAnswer,
  SyncRequest,
} from "./messages.ts";
import { isNews } from "./news.ts";
import { Questions } from "./questions.ts";
import { Rounds } from "./rounds.ts";
import { mayHost } from "../../../shared/allowed.ts";
import { Divergence } from "./divergence.ts";
import {
  changeOwn,
  overtake,
  OVERTAKE_PERIOD_MS,
  type OwnChange,
  type OwnModules,
} from "./own-documents.ts";
import { Tables } from "./tables.ts";
import { deltaHolds, documentHolds } from "./verify.ts";

export interface ReplicaOptions {
  readonly node: NodeId;
  /** Between two exchanges with a random peer of a network while there is news (rounds.ts). */
  readonly syncPeriodMs: number;
  readonly requestTimeoutMs: number;
}

/** Some heartbeats of gossipsub (1 s), after which a topic's mesh stands. */
const YOUNG_MS = 5000;

export const DEFAULT_REPLICA_OPTIONS = { syncPeriodMs: 1500, requestTimeoutMs: 1000 } as const;

export interface ReplicaModules {
  readonly hasher: Hasher;
  readonly signer: Signer;
  readonly verifier: Verifier;
  readonly random: Random;
  /** Connected peers on the network's topic. */
  readonly peers: (network: NetworkId) => readonly NodeId[];
}

/** What the shell must do; in this order. */
export type Output =
  | { readonly kind: "persist"; readonly document: NetworkDocument }
  | { readonly kind: "forget"; readonly network: NetworkId }
  | { readonly kind: "publish"; readonly network: NetworkId; readonly bytes: Uint8Array }
  | {
      readonly kind: "request";
      readonly id: number;
      readonly to: NodeId;
      readonly bytes: Uint8Array;
    }
  | { readonly kind: "dirty"; readonly network: NetworkId };

interface Question {
  readonly network: NetworkId;
  readonly to: NodeId;
  readonly round: boolean;
  /** What was asked for, in the last step of a round. */
  readonly nodes?: readonly NodeId[];
}

interface Topic {
  readonly joinedMs: number;
  inSync: boolean;
  overtookMs: number;
  readonly rounds: Rounds;
  readonly comparisons: Divergence;
}

/** What was refused or repaired, for `status`. */
export interface ReplicaCounters {
  /** Documents that came, whole or as a delta. */
  parsed: number;
  merged: number;
  gaps: number;
  malformed: number;
  /** Of a later version of the wire. */
  otherVersion: number;
  badSignature: number;
  notMembers: number;
  notSubscribed: number;
  overtaken: number;
  timeouts: number;
  staleAnswers: number;
}

/**
 * This host's copy of the networks it hosts: own changes out, others' in, and anti-entropy that
 * repairs whatever gossip lost. No I/O, no clock: inputs and `nowMs` in, outputs out.
 */
export class Replica {
  readonly tables = new Tables();
  readonly counters: ReplicaCounters = {
    parsed: 0,
    merged: 0,
    gaps: 0,
    malformed: 0,
    otherVersion: 0,
    badSignature: 0,
    notMembers: 0,
    notSubscribed: 0,
    overtaken: 0,
    timeouts: 0,
    staleAnswers: 0,
  };
  readonly #options: ReplicaOptions;
  readonly #modules: ReplicaModules;
  readonly #own: OwnModules;
  readonly #topics = new Map<NetworkId, Topic>();
  readonly #questions: Questions<Question>;

  constructor(options: ReplicaOptions, modules: ReplicaModules) {
    this.#options = options;
    this.#modules = modules;
    this.#questions = new Questions(options.requestTimeoutMs);
    this.#own = { node: options.node, hasher: modules.hasher, signer: modules.signer };
  }

  /** One full exchange with a peer was had since the topic was joined. */
  inSync(network: NetworkId): boolean {
    return this.#topics.get(network)?.inSync ?? false;
  }

  /** Connected peers with which no comparison ends in agreement: asking does not mend it. */
  differing(network: NetworkId): NodeId[] {
    const lasting = this.#topics.get(network)?.comparisons.lasting() ?? [];
    const peers = new Set(this.#modules.peers(network));
    return lasting.filter((peer) => peers.has(peer));
  }

  /** At start, from disk, before anything else. Own and others' documents alike were verified when written. */
  restore(documents: readonly NetworkDocument[]): void {
    for (const document of documents) this.tables.mergeNetwork(document);
  }

  /** The first endpoint is about to come: subscribe, and ask a peer at once. */
  join(network: NetworkId, nowMs: number): Output[] {
    if (this.#topics.has(network)) return [];
    this.#topics.set(network, {
      joinedMs: nowMs,
      inSync: false,
      overtookMs: -Infinity,
      rounds: new Rounds(this.#options.syncPeriodMs, this.#modules.random, nowMs),
      comparisons: new Divergence(),
    });
    return this.tick(nowMs);
  }

  /** The last endpoint left and the linger is over: the network is forgotten here. */
  leave(network: NetworkId): Output[] {
    if (!this.#topics.delete(network)) return [];
    this.#questions.forget((question) => question.network === network);
    this.tables.forgetOthers(network, this.#options.node);
    return [
      { kind: "forget", network },
      { kind: "dirty", network },
    ];
  }

  /** @throws FULL. To disk before to the mesh: a crash between leaves a change that is said again. */
  change(
    network: NetworkId,
    put: readonly Endpoint[],
    remove: readonly EndpointId[],
    nowMs: number,
  ): Output[] {
    return this.carryOut(this.propose(network, put, remove), nowMs);
  }

  /** What `change` would say; nothing has changed until it is carried out, before any other change. @throws FULL */
  propose(network: NetworkId, put: readonly Endpoint[], remove: readonly EndpointId[]): OwnChange {
    const held = this.tables.documents(network).get(this.#options.node);
    return changeOwn(this.#own, network, held, put, remove);
  }

  carryOut(proposed: OwnChange, nowMs: number): Output[] {
    this.tables.mergeNetwork(proposed.document);
    return this.#said(proposed, nowMs);
  }

  /** A peer has just been connected, and gossip between us was lost until then. */
  connected(nowMs: number): void {
    for (const { rounds } of this.#topics.values()) rounds.news(nowMs);
    this.peersChanged(nowMs);
  }

  /** Others may be on a network now: who has heard nobody there asks at once. */
  peersChanged(nowMs: number): void {
    for (const [network, { inSync, rounds }] of this.#topics)
      if (!inSync && this.#modules.peers(network).length > 0) rounds.soon(nowMs);
  }

  /** A message of a network's topic; `from` handed it to us and can be asked for the whole. */
  gossip(network: NetworkId, from: NodeId, bytes: Uint8Array, nowMs: number): Output[] {
    const message = this.#decode(GossipMessage, bytes, BOUNDS.gossipMessageBytes);
    if (message === undefined) return [];
    this.counters.parsed++;
    const { delta } = message;
    if (delta.network !== network || !this.#topics.has(network))
      return this.#count("notSubscribed");
    if (!this.tables.isMember(delta.node)) return this.#count("notMembers");
    if (!deltaHolds(delta, this.#modules.verifier)) return this.#count("badSignature");
    if (delta.node === this.#options.node) {
      if (!this.#isNews(network, delta)) return [];
      return this.#fetch(network, from, [delta.node], nowMs);
    }
    switch (this.tables.applyDelta(delta, this.#modules.hasher)) {
      case "old":
        return [];
      case "gap":
        this.counters.gaps++;
        return this.#fetch(network, from, [delta.node], nowMs);
      case "merged":
        this.counters.merged++;
        return this.#changed(network, delta.node, nowMs);
    }
  }

  /** An admitted peer asks. Whoever has no endpoint on the network learns nothing of it here either. */
  answer(from: NodeId, bytes: Uint8Array): Uint8Array {
    const request = decodeMessage(SyncRequest, bytes, BOUNDS.syncMessageBytes);
    if (!mayHost(this.tables.state, from, request.network))
      return encodeMessage({ v: 1, kind: "notHere" });
    return encodeMessage(this.#answer(from, request));
  }

  answered(id: number, bytes: Uint8Array, nowMs: number): Output[] {
    const ask = this.#questions.end(id);
    if (ask === undefined) return this.#count("staleAnswers");
    const answer = this.#decode(SyncAnswer, bytes, BOUNDS.syncMessageBytes);
    if (answer === undefined) return [];
    if (ask.round) this.#compared(ask, answer, nowMs);
    switch (answer.kind) {
      case "same":
        return ask.round ? this.#synced(ask.network) : [];
      case "notHere":
        return [];
      case "digest": {
        const nodes = this.#newer(ask.network, answer.digest);
        if (nodes.length === 0) return ask.round ? this.#synced(ask.network) : [];
        const { network } = ask;
        return this.#ask({ ...ask, nodes }, { v: 1, kind: "fetch", network, nodes }, nowMs);
      }
      case "documents": {
        this.counters.parsed += answer.documents.length;
        const outputs = answer.documents.flatMap((document) =>
          document.network === ask.network
            ? this.#merge(document, nowMs)
            : this.#count("malformed"),
        );
        // Cut at one message's size, or something was refused: then this round proves nothing.
        const came = new Set(answer.documents.map(({ node }) => node));
        const rest = (ask.nodes ?? []).filter((node) => !came.has(node));
        if (!ask.round) return outputs;
        if (rest.length === 0) return [...outputs, ...this.#synced(ask.network)];
        if (came.size === 0) return outputs;
        const { network } = ask;
        const more = { v: 1, kind: "fetch", network, nodes: rest } as const;
        return [...outputs, ...this.#ask({ ...ask, nodes: rest }, more, nowMs)];
      }
    }
  }

  /** Later steps of a round bring what the first has shown to be missing. */
  #compared({ network, to }: Question, answer: SyncAnswer, nowMs: number): void {
    const topic = this.#topics.get(network);
    if (answer.kind === "digest") {
      const { hasher } = this.#modules;
      const both = hasher.sha256(this.#digestHash(network), encodeCbor(answer.digest));
      topic?.comparisons.differs(to, both, nowMs);
      topic?.rounds.news(nowMs);
    } else if (answer.kind !== "documents") topic?.comparisons.same(to);
    if (answer.kind === "same") topic?.rounds.equal();
  }

  requestFailed(id: number): void {
    this.#questions.end(id);
  }

  /** Call at `nextMs()` or later; often does no harm. */
  tick(nowMs: number): Output[] {
    this.counters.timeouts += this.#questions.expire(nowMs);
    const outputs: Output[] = [];
    for (const [network, topic] of this.#topics) {
      if (topic.rounds.nextMs > nowMs) continue;
      const peers = this.#modules.peers(network);
      // Not in sync: a peer may come any moment, and deletions wait for it. Young: gossip may not have
      // found its ways yet, and what others just said is learnt by comparison alone.
      const settled = topic.inSync && nowMs - topic.joinedMs > YOUNG_MS;
      const to = topic.rounds.begin(peers, settled, nowMs);
      if (to === undefined) continue;
      const hash = this.#digestHash(network);
      const ask = { network, to, round: true };
      outputs.push(...this.#ask(ask, { v: 1, kind: "compare", network, hash }, nowMs));
    }
    return outputs;
  }

  /** When `tick` has something to do next; undefined: only after another input. */
  nextMs(): number | undefined {
    const rounds = [...this.#topics.values()].map(({ rounds }) => rounds.nextMs);
    const nextMs = Math.min(this.#questions.nextMs(), ...rounds);
    return nextMs === Infinity ? undefined : nextMs;
  }

  #answer(from: NodeId, request: SyncRequest): SyncAnswer {
    const topic = this.#topics.get(request.network);
    if (topic === undefined) return { v: 1, kind: "notHere" };
    switch (request.kind) {
      case "compare":
        if (equalBytes(request.hash, this.#digestHash(request.network)))
          return { v: 1, kind: "same" };
        topic.rounds.askBack(from, request.hash);
        return { v: 1, kind: "digest", digest: this.#digest(request.network) };
      case "fetch": {
        const documents: NetworkDocument[] = [];
        let left = BOUNDS.syncMessageBytes / 2;
        for (const node of request.nodes) {
          const document = this.tables.documents(request.network).get(node);
          if (document === undefined) continue;
          left -= encodeCbor(document).length;
          if (left < 0 && documents.length > 0) break;
          documents.push(document);
        }
        return { v: 1, kind: "documents", documents };
      }
    }
  }

  #merge(document: NetworkDocument, nowMs: number): Output[] {
    if (!this.tables.isMember(document.node)) return this.#count("notMembers");
    if (!documentHolds(document, this.#modules.hasher, this.#modules.verifier))
      return this.#count("badSignature");
    if (document.node === this.#options.node) return this.#metOwn(document, nowMs);
    if (!this.tables.mergeNetwork(document)) return [];
    this.counters.merged++;
    return this.#changed(document.network, document.node, nowMs);
  }

  #metOwn(met: NetworkDocument, nowMs: number): Output[] {
    const held = this.tables.documents(met.network).get(met.node);
    const topic = this.#topics.get(met.network);
    const said = overtake(this.#own, held, met);
    if (said === undefined || nowMs < (topic?.overtookMs ?? -Infinity) + OVERTAKE_PERIOD_MS)
      return [];
    if (topic !== undefined) topic.overtookMs = nowMs;
    this.counters.overtaken++;
    this.tables.mergeNetwork(said.document);
    return this.#said(said, nowMs);
  }

  #said({ document, delta }: OwnChange, nowMs: number): Output[] {
    const { network } = document;
    this.#topics.get(network)?.rounds.news(nowMs);
    return [
      { kind: "persist", document },
      { kind: "publish", network, bytes: encodeMessage({ v: 1, delta }) },
      { kind: "dirty", network },
    ];
  }

  #changed(network: NetworkId, node: NodeId, nowMs: number): Output[] {
    this.#topics.get(network)?.rounds.news(nowMs);
    const document = this.tables.documents(network).get(node);
    return document === undefined
      ? []
      : [
          { kind: "persist", document },
          { kind: "dirty", network },
        ];
  }

  #synced(network: NetworkId): Output[] {
    const topic = this.#topics.get(network);
    if (topic === undefined || topic.inSync) return [];
    topic.inSync = true;
    // Deletions held back until now may go.
    return [{ kind: "dirty", network }];
  }

  #fetch(network: NetworkId, to: NodeId, nodes: NodeId[], nowMs: number): Output[] {
    return this.#ask({ network, to, round: false }, { v: 1, kind: "fetch", network, nodes }, nowMs);
  }

  #ask(question: Question, request: SyncRequest, nowMs: number): Output[] {
    const id = this.#questions.ask(question, nowMs);
    return [{ kind: "request", id, to: question.to, bytes: encodeMessage(request) }];
  }

  #newer(network: NetworkId, digest: Digest): NodeId[] {
    return digest.filter((entry) => this.#isNews(network, entry)).map(({ node }) => node);
  }

  #isNews(network: NetworkId, seen: Digest[number]): boolean {
    const held = this.tables.documents(network).get(seen.node);
    return isNews(seen, held, (document) => documentHash(this.#modules.hasher, document));
  }

  #digest(network: NetworkId): Digest {
    return [...this.tables.documents(network).values()]
      .filter(({ node }) => this.tables.isMember(node))
      .map((document) => ({
        node: document.node,
        version: document.version,
        hash: documentHash(this.#modules.hasher, document),
      }))
      .toSorted((a, b) => (a.node < b.node ? -1 : 1));
  }

  #digestHash(network: NetworkId): Uint8Array {
    return this.#modules.hasher.sha256(encodeCbor(this.#digest(network)));
  }

  #decode<T>(schema: Parameters<typeof tryDecode<T>>[0], bytes: Uint8Array, max: number) {
    return tryDecode(schema, bytes, max, (why) => this.counters[why]++);
  }

  #count(what: keyof ReplicaCounters): [] {
    this.counters[what]++;
    return [];
  }
}
