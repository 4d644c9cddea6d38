import { BOUNDS } from "../../../shared/bounds.ts";
import type {
  ClusterState,
  SignedChange,
  SignedHead,
  SignedState,
} from "../../../shared/cluster-state.ts";
import { encodeCbor, equalBytes } from "../../../shared/codec.ts";
import { type HostDocument, hostSigningBytes, type Version } from "../../../shared/documents.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Hasher, Random, Signer, Verifier } from "../../../shared/ports.ts";
import type { StateHead, StatePoint } from "../../../shared/state/head.ts";
import { ClusterGossip, ClusterSyncAnswer, ClusterSyncRequest } from "./cluster-messages.ts";
import { type ClusterOutput, newClusterCounters } from "./cluster-output.ts";
import { Questions } from "./questions.ts";
import type { HeadedChange } from "./followed-state.ts";
import { Rounds } from "./rounds.ts";
import { HostDigests } from "./host-digests.ts";
import { tryDecode } from "./messages.ts";
import { OVERTAKE_PERIOD_MS } from "./own-documents.ts";
import { StateReplica } from "./state-replica.ts";
import type { Tables } from "./tables.ts";
import { hostHolds } from "./verify.ts";

export interface ClusterReplicaOptions {
  readonly node: NodeId;
  readonly syncPeriodMs: number;
  readonly requestTimeoutMs: number;
}

export interface ClusterReplicaModules {
  readonly hasher: Hasher;
  readonly signer: Signer;
  readonly verifier: Verifier;
  readonly random: Random;
  /** Connected peers. */
  readonly peers: () => readonly NodeId[];
}

/** What a host says of itself; the rest of its document follows from it. */
export type HostFacts = Pick<
  HostDocument,
  "bootId" | "vtep" | "underlayMtuBytes" | "wireguardKey" | "capabilities" | "hosting" | "needs"
>;

interface Question {
  readonly to: NodeId;
  /** Whose documents were asked for. */
  readonly nodes?: readonly NodeId[];
  /** About objects of the state. */
  readonly catchesUp?: true;
}

/** Of hosts that a state admits: what more of them say is found by a comparison. */
const ASKED_BY_NAME = 16;

/** A machine that lives and is connected overtakes this one far more often. */
const OTHER_MACHINE_MS = 300_000;

/**
 * This host's copy of what concerns the whole cluster: the controller's signed state and every
 * host's own document. As `Replica` for networks: inputs and `nowMs` in, outputs out.
 */
export class ClusterReplica {
  readonly counters = newClusterCounters();
  readonly #options: ClusterReplicaOptions;
  readonly #modules: ClusterReplicaModules;
  readonly #tables: Tables;
  readonly #digests: HostDigests;
  readonly #questions: Questions<Question>;
  readonly #state: StateReplica;
  readonly #rounds: Rounds;
  #inSync = false;
  #stateIsFresh = false;
  /** What a peer that is sure has, and we have not yet. */
  #awaitedRevision = Infinity;
  /** This machine's, once it has said something. */
  #bootId: string | undefined;
  #overtookMs = -Infinity;
  #otherMachine: { readonly bootId: string; readonly metMs: number } | undefined;

  constructor(tables: Tables, options: ClusterReplicaOptions, modules: ClusterReplicaModules) {
    this.#tables = tables;
    this.#options = options;
    this.#modules = modules;
    this.#digests = new HostDigests(tables, modules.hasher);
    this.#questions = new Questions(options.requestTimeoutMs);
    this.#state = new StateReplica(tables, {
      node: options.node,
      hasher: modules.hasher,
      counters: this.counters,
      random: modules.random,
      peers: modules.peers,
      timeoutMs: options.requestTimeoutMs,
      ask: (to, request, nowMs) => this.#request({ to, catchesUp: true }, request, nowMs),
      fetch: (to, nowMs, revision) => this.#fetch(to, [], nowMs, revision),
      merged: (state, members, nowMs) => this.#stateMerged(state, members, nowMs),
    });
    this.#rounds = new Rounds(options.syncPeriodMs, modules.random, 0);
  }

  /** At start, from disk; all of it was verified when written, the state again by the caller. */
  restore(
    hosts: readonly HostDocument[],
    signed: SignedState,
    state: ClusterState,
    changes: readonly HeadedChange[] = [],
  ): void {
    this.#state.restore(signed, state, changes);
    for (const document of hosts) this.#tables.mergeHost(document);
  }

  /** What this host says of itself now; nothing when it has said so already. */
  say(facts: HostFacts, nowMs: number): ClusterOutput[] {
    const held = this.#tables.hosts.get(this.#options.node);
    this.#bootId = facts.bootId;
    if (held !== undefined && sameFacts(held, facts)) return [];
    const version = {
      incarnation: held?.version.incarnation ?? 1,
      seq: (held?.version.seq ?? 0) + 1,
    };
    return this.#publishOwn(facts, version, held?.overtook, nowMs);
  }

  gossip(from: NodeId, bytes: Uint8Array, nowMs: number): ClusterOutput[] {
    const message = this.#decode(ClusterGossip, bytes, BOUNDS.gossipMessageBytes);
    if (message === undefined) return [];
    if (message.kind !== "host") return this.#state.gossip(from, message, nowMs);
    this.counters.parsed++;
    return this.#merge(message.document, nowMs);
  }

  answer(from: NodeId, request: ClusterSyncRequest): ClusterSyncAnswer {
    switch (request.kind) {
      case "compareCluster": {
        const revision = this.#state.revision();
        const { entries, hash } = this.#digests.current();
        const unsure = this.#stateIsFresh ? {} : { unsure: true as const };
        const root = request.root === undefined ? undefined : this.#state.point()?.root;
        const isSame = revision === request.revision && (root ?? request.root) === request.root;
        if (isSame && equalBytes(request.hash, hash)) return { v: 1, kind: "same", ...unsure };
        this.#rounds.askBack(from, encodeCbor([request.revision, request.hash]));
        const digest = { revision, digest: entries, ...(root === undefined ? {} : { root }) };
        return { v: 1, kind: "clusterDigest", ...digest, ...unsure };
      }
      case "fetchCluster": {
        const wanted = new Set(request.nodes);
        const hosts = [...this.#tables.hosts.values()].filter(({ node }) => wanted.has(node));
        return { v: 1, kind: "cluster", ...this.#state.newerThan(request), hosts };
      }
      case "stateHashes":
      case "stateObjects":
        return this.#state.answerCatchUp(request);
    }
  }

  answered(id: number, bytes: Uint8Array, nowMs: number): ClusterOutput[] {
    const ask = this.#questions.end(id);
    const answer = this.#decode(ClusterSyncAnswer, bytes, BOUNDS.syncMessageBytes);
    if (ask === undefined || answer === undefined) return [];
    switch (answer.kind) {
      case "same": {
        const revision = this.#state.revision();
        const outputs = [...this.#newestWas(answer.unsure, revision), ...this.#synced()];
        // Else the next peer may be one that knows which state is the newest.
        if (this.#stateIsFresh) this.#rounds.equal();
        return outputs;
      }
      case "clusterDigest": {
        this.#rounds.news(nowMs);
        const freshness = this.#newestWas(answer.unsure, answer.revision);
        const nodes = answer.digest
          .filter((entry) => this.#tables.isMember(entry.node) && this.#digests.isNews(entry))
          .map(({ node }) => node);
        const news = nodes.length > 0 || this.#state.isPassedBy(answer);
        return [...freshness, ...(news ? this.#fetch(ask.to, nodes, nowMs) : this.#synced())];
      }
      case "cluster": {
        this.counters.parsed += answer.hosts.length;
        const hosts = answer.hosts.flatMap((document) => this.#merge(document, nowMs));
        // First: a host that the new state admits is refused by the old one.
        const state = this.#state.fetched(ask.to, answer);
        if (state !== undefined) return [...state, ...hosts];
        const came = new Set(answer.hosts.map(({ node }) => node));
        const whole = ask.nodes?.every((node) => came.has(node)) === true;
        return whole ? [...hosts, ...this.#synced()] : hosts;
      }
      case "stateHashes":
      case "stateObjects":
      case "stateHead":
        return this.#state.catchUpAnswered(ask.to, answer, nowMs);
    }
  }

  requestFailed(id: number, nowMs: number): ClusterOutput[] {
    const ask = this.#questions.end(id);
    return ask?.catchesUp === true ? this.#state.catchUpFailed(ask.to, nowMs) : [];
  }

  /** As `stateVerified`, and it came from the controller itself. */
  controllerTold(signed: SignedState, state: ClusterState, nowMs: number): ClusterOutput[] {
    const outputs = this.#state.stateVerified(signed, state, nowMs, true);
    return [...outputs, ...this.#newestWas(undefined, state.revision)];
  }

  /** The controller itself says so. */
  isNewest(revision: number): ClusterOutput[] {
    return this.#newestWas(undefined, revision);
  }

  /** As `changeVerified`, from the controller itself; `newest`: what they lead to. */
  changesTold(newest: StateHead, changes: readonly HeadedChange[], nowMs: number): ClusterOutput[] {
    const outputs = this.#state.changesTold(changes, nowMs);
    return [...outputs, ...this.#newestWas(undefined, newest.revision)];
  }

  /** The chain of trust holds. From whomever it came, the higher revision wins. */
  stateVerified(signed: SignedState, state: ClusterState, nowMs: number): ClusterOutput[] {
    return this.#state.stateVerified(signed, state, nowMs);
  }

  /** The head's signature holds. */
  changeVerified(
    from: NodeId,
    signed: SignedChange,
    head: StateHead,
    nowMs: number,
  ): ClusterOutput[] {
    return this.#state.changeVerified(from, signed, head, nowMs);
  }

  /** The head's signature holds. */
  headVerified(from: NodeId, signed: SignedHead, head: StateHead, nowMs: number): ClusterOutput[] {
    return this.#state.headVerified(from, signed, head, nowMs);
  }

  /** Few by their names: a comparison is answered with what there is of all hosts. */
  #askAbout(hosts: readonly NodeId[], nowMs: number): ClusterOutput[] {
    const to = hosts.length === 0 ? undefined : this.#somePeer();
    if (to === undefined) return [];
    if (hosts.length > ASKED_BY_NAME) return this.#compare(to, nowMs);
    const revision = this.#state.revision();
    // Of a question without names the answer puts nothing in sync: it is not all that the peer has.
    return this.#request(
      { to },
      { v: 1, kind: "fetchCluster", revision, nodes: [...hosts] },
      nowMs,
    );
  }

  tick(nowMs: number): ClusterOutput[] {
    this.counters.timeouts += this.#questions.expire(nowMs);
    const fetching = this.#state.tick(nowMs);
    if (this.#rounds.nextMs > nowMs) return fetching;
    const to = this.#rounds.begin(this.#modules.peers(), true, nowMs);
    return [...fetching, ...(to === undefined ? [] : this.#compare(to, nowMs))];
  }

  /** A peer has just been connected: what was missed while apart is asked at once. */
  connected(peer: NodeId, nowMs: number): ClusterOutput[] {
    this.#rounds.news(nowMs);
    return this.#compare(peer, nowMs);
  }

  /** What all hosts say of themselves was compared with what a peer knows, since the start. */
  inSync(): boolean {
    return this.#inSync;
  }

  /**
   * Since the start the controller said that ours is its newest state, or a peer did to which that was
   * said. Peers that know no more than their disks do not count: two that both lost theirs would take
   * what they joined with for all there is, and give up every network since.
   */
  stateIsFresh(): boolean {
    return this.#stateIsFresh;
  }

  /** The boot id of a machine that takes part with this host's identity, as of now; undefined: none does. */
  otherMachine(nowMs: number): string | undefined {
    const met = this.#otherMachine;
    return met !== undefined && nowMs - met.metMs < OTHER_MACHINE_MS ? met.bootId : undefined;
  }

  nextMs(): number {
    return Math.min(this.#rounds.nextMs, this.#questions.nextMs(), this.#state.nextMs());
  }

  /** Members that need the state whole, so that it travels whole: those of 0.1.0. */
  needWhole(): NodeId[] {
    return this.#state.needWhole();
  }

  /** A revision not long ago of which there are two states, both signed; undefined: there is none. */
  fork(): number | undefined {
    return this.#state.fork();
  }

  /** See `StateReplica.point`. */
  point(): StatePoint | undefined {
    return this.#state.point();
  }

  /** See `StateReplica.takesOfController`. */
  takesOfController(): ReturnType<StateReplica["takesOfController"]> {
    return this.#state.takesOfController();
  }

  /** See `StateReplica.lacksWhole`. */
  lacksWhole(): boolean {
    return this.#state.lacksWhole();
  }

  /** The state that is held, as it was signed and is on disk. */
  signed(): ReturnType<StateReplica["signed"]> {
    return this.#state.signed();
  }

  /** The same in one, for who takes one only. */
  proof(): SignedState | undefined {
    return this.#state.proof();
  }

  #stateMerged(
    { revision, nodes }: ClusterState,
    members: ReadonlySet<NodeId>,
    nowMs: number,
  ): ClusterOutput[] {
    this.#rounds.news(nowMs);
    if (revision >= this.#awaitedRevision) this.#stateIsFresh = true;
    // What a new member says of itself may have come, and been refused, before the state.
    const unheard = nodes
      .map(({ id }) => id)
      .filter((id) => !members.has(id) && !this.#tables.hosts.has(id));
    return [{ kind: "changed" }, ...this.#askAbout(unheard, nowMs)];
  }

  #compare(to: NodeId, nowMs: number): ClusterOutput[] {
    const { hash } = this.#digests.current();
    return this.#ask(to, { v: 1, kind: "compareCluster", ...this.#state.compares(), hash }, nowMs);
  }

  /** By the controller's word, or by that of a peer; `unsure`: it only has it from its disk. */
  #newestWas(unsure: true | undefined, revision: number): ClusterOutput[] {
    if (this.#stateIsFresh || unsure === true) return [];
    if (revision > this.#state.revision()) this.#awaitedRevision = revision;
    // A lower one is of a controller restored from a backup, or of a peer that has yet to hear.
    if (revision !== this.#state.revision()) return [];
    this.#stateIsFresh = true;
    // Networks that no state names may go.
    return [{ kind: "changed" }];
  }

  #synced(): ClusterOutput[] {
    if (this.#inSync) return [];
    this.#inSync = true;
    // Deletions held back until now may go.
    return [{ kind: "changed" }];
  }

  #somePeer(): NodeId | undefined {
    const peers = this.#modules.peers();
    return peers.length === 0 ? undefined : peers[this.#modules.random.below(peers.length)];
  }

  #merge(document: HostDocument, nowMs: number): ClusterOutput[] {
    const { verifier } = this.#modules;
    if (!this.#digests.isNews(this.#digests.entry(document))) return [];
    if (!hostHolds(document, verifier)) {
      this.counters.badSignature++;
      return [];
    }
    if (document.node === this.#options.node) return this.#metOwn(document, nowMs);
    // Anyone can sign a document; only members' are kept, or the table would have no bound.
    if (!this.#tables.isMember(document.node)) {
      this.counters.notMembers++;
      return [];
    }
    const before = this.#tables.hosts.get(document.node);
    if (!this.#tables.mergeHost(document)) return [];
    this.counters.merged++;
    this.#rounds.news(nowMs);
    return [
      { kind: "persistHost", document },
      ...this.#state.hostChanged(before, document),
      { kind: "changed" },
    ];
  }

  /** A newer document of our own: our disk is old. What is true now is said again, after it. */
  #metOwn(met: HostDocument, nowMs: number): ClusterOutput[] {
    const isOther = met.bootId !== this.#bootId && met.overtook === this.#bootId;
    if (isOther && this.#bootId !== undefined) this.#metOther(met.bootId, nowMs);
    // The next comparison shows it again.
    if (nowMs < this.#overtookMs + OVERTAKE_PERIOD_MS) return [];
    this.#overtookMs = nowMs;
    this.counters.overtaken++;
    const facts = this.#tables.hosts.get(met.node) ?? met;
    const version = { incarnation: met.version.incarnation + 1, seq: 1 };
    const overtook = met.bootId === facts.bootId ? undefined : met.bootId;
    return this.#publishOwn(facts, version, overtook, nowMs);
  }

  /**
   * It has met a word of this boot, and is none of it: a machine that runs beside this one, and not what this one
   * was before it started again, which can have met nothing of now.
   */
  #metOther(bootId: string, nowMs: number): void {
    this.#otherMachine = { bootId: this.otherMachine(nowMs) ?? bootId, metMs: nowMs };
  }

  #publishOwn(
    facts: HostFacts,
    version: Version,
    overtook: string | undefined,
    nowMs: number,
  ): ClusterOutput[] {
    const { bootId, vtep, underlayMtuBytes, wireguardKey, capabilities, hosting, needs } = facts;
    const { node } = this.#options;
    const unsigned = {
      node,
      version,
      bootId,
      ...(overtook === undefined ? {} : { overtook }),
      vtep,
      underlayMtuBytes,
      ...(wireguardKey === undefined ? {} : { wireguardKey }),
      capabilities,
      hosting: hosting.toSorted(),
      ...(needs === undefined ? {} : { needs: needs.toSorted() }),
    };
    const signature = this.#modules.signer.sign(hostSigningBytes(unsigned));
    const document: HostDocument = { ...unsigned, signature };
    this.#tables.mergeHost(document);
    this.#rounds.news(nowMs);
    return [
      { kind: "persistHost", document },
      { kind: "publish", bytes: encodeCbor({ v: 1, kind: "host", document }) },
      { kind: "changed" },
    ];
  }

  #fetch(
    to: NodeId,
    nodes: NodeId[],
    nowMs: number,
    revision = this.#state.revision(),
  ): ClusterOutput[] {
    const takes = this.#state.takes();
    return this.#ask(to, { v: 1, kind: "fetchCluster", revision, nodes, ...takes }, nowMs);
  }

  #ask(to: NodeId, request: ClusterSyncRequest, nowMs: number): ClusterOutput[] {
    const nodes = request.kind === "fetchCluster" ? { nodes: request.nodes } : {};
    return this.#request({ to, ...nodes }, request, nowMs);
  }

  #request(question: Question, request: ClusterSyncRequest, nowMs: number): ClusterOutput[] {
    const id = this.#questions.ask(question, nowMs);
    return [{ kind: "request", id, to: question.to, bytes: encodeCbor(request) }];
  }

  #decode<T>(schema: Parameters<typeof tryDecode<T>>[0], bytes: Uint8Array, max: number) {
    return tryDecode(schema, bytes, max, (why) => this.counters[why]++);
  }
}

function sameFacts(held: HostDocument, facts: HostFacts): boolean {
  const of = (facts: HostFacts): Uint8Array => {
    const { bootId, vtep, underlayMtuBytes, wireguardKey, capabilities, hosting, needs } = facts;
    const lists = [hosting.toSorted(), needs?.toSorted() ?? null];
    return encodeCbor([
      bootId,
      vtep,
      underlayMtuBytes,
      wireguardKey ?? null,
      capabilities,
      ...lists,
    ]);
  };
  return equalBytes(of(held), of(facts));
}
