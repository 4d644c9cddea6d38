import { BOUNDS } from "../../../shared/bounds.ts";
import type {
  ClusterState,
  SignedChange,
  SignedHead,
  SignedState,
  Takes,
} from "../../../shared/cluster-state.ts";
import type { HostDocument } from "../../../shared/documents.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { OverlayError } from "../../../shared/errors.ts";
import type { Hasher, Random } from "../../../shared/ports.ts";
import { answerTo } from "../../../shared/state/catch-up.ts";
import {
  compareHeads,
  headIn,
  type StateHead,
  type StatePoint,
} from "../../../shared/state/head.ts";
import type { ClusterGossip, ClusterSyncAnswer, ClusterSyncRequest } from "./cluster-messages.ts";
import type { ClusterCounters, ClusterOutput } from "./cluster-output.ts";
import { FollowedState, type HeadedChange } from "./followed-state.ts";
import { followsChanges, needWhole } from "./following.ts";
import { MetForks } from "./met-forks.ts";
import {
  answerOf,
  type CatchUpAnswer,
  type CatchUpRequest,
  MOST_ANSWER_BYTES,
  questionOf,
  StateCatchUp,
  type StateCatchUpModules,
} from "./state-catch-up.ts";
import { newsOfChange, newsOfState } from "./state-news.ts";
import type { Tables } from "./tables.ts";

/** Gossip's other ways are seldom slower: then a peer is asked for what did not come. */
const ON_ITS_WAY_MS = 300;

/** Others that are further behind ask. */
const MOST_TOLD_AT_ONCE = 16;

export interface StateReplicaModules {
  readonly node: NodeId;
  readonly hasher: Hasher;
  readonly counters: ClusterCounters;
  readonly timeoutMs: number;
  readonly ask: StateCatchUpModules["ask"];
  /** Connected. */
  readonly peers: () => readonly NodeId[];
  readonly random: Random;
  /** Asks the peer for a state that is newer than of this revision; undefined: than what is held. */
  readonly fetch: (to: NodeId, nowMs: number, revision?: number) => ClusterOutput[];
  /** It is in the tables; `members`: of the state before. */
  readonly merged: (
    state: ClusterState,
    members: ReadonlySet<NodeId>,
    nowMs: number,
  ) => ClusterOutput[];
}

type Fetch = Extract<ClusterSyncRequest, { kind: "fetchCluster" }>;
type Fetched = Extract<ClusterSyncAnswer, { kind: "cluster" }>;

/**
 * The controller's state at this host: in which form it comes, is handed on, and is told to who asks. All members follow
 * changes: then a head with what changed is all that travels. While one does not, it travels whole.
 */
export class StateReplica {
  readonly #tables: Tables;
  readonly #modules: StateReplicaModules;
  readonly #followed: FollowedState;
  readonly #catchUp: StateCatchUp;
  readonly #forks = new MetForks();
  /** A newer state is somewhere, and what leads to it may still come by itself until then. */
  #behind:
    { readonly revision: number; readonly from: NodeId; readonly untilMs: number } | undefined;

  constructor(tables: Tables, modules: StateReplicaModules) {
    this.#tables = tables;
    this.#modules = modules;
    this.#followed = new FollowedState(modules.hasher);
    this.#catchUp = new StateCatchUp({ ...modules, another: (than) => this.#another(than) });
  }

  /** At start, from disk; signatures were checked by the caller. */
  restore(signed: SignedState, state: ClusterState, changes: readonly HeadedChange[]): void {
    this.#followed.whole(signed, state);
    this.#tables.mergeState(state);
    for (const change of changes) {
      const followed = this.#followed.follow(change);
      if (followed.kind === "followed") this.#tables.mergeState(followed.state);
    }
  }

  gossip(
    from: NodeId,
    message: Exclude<ClusterGossip, { kind: "host" }>,
    nowMs: number,
  ): ClusterOutput[] {
    switch (message.kind) {
      case "state":
        return this.#isWanted(message.revision)
          ? [{ kind: "verifyState", signed: message.state }]
          : [];
      case "change":
        return this.#isNews(message) ? [this.#verify(from, message.change)] : [];
      case "stateIsThere":
        if (!this.#isWanted(message.revision)) return [];
        if (this.#followed.comesByChanges() && this.needWhole().length === 0)
          return this.#awaitFrom(from, message.revision, nowMs);
        return this.#modules.fetch(from, nowMs, message.revision - 1);
    }
  }

  /** Signatures are checked before anything else; undefined: it holds nothing of the state. */
  fetched(from: NodeId, { state, changes, head }: Fetched): ClusterOutput[] | undefined {
    if (state !== undefined) return [{ kind: "verifyState", signed: state }];
    if (head !== undefined) return [{ kind: "verifyHead", from, signed: head }];
    return changes?.map((change) => this.#verify(from, change));
  }

  /** The chain of trust holds. From whomever it came, the higher revision wins. `told`: by the controller. */
  stateVerified(
    signed: SignedState,
    state: ClusterState,
    nowMs: number,
    told = false,
  ): ClusterOutput[] {
    if (!this.#tables.isNewer(state)) {
      const isWanted = told ? this.#lacksWhole(state.revision) : this.#isWanted(state.revision);
      if (signed.content !== undefined || !isWanted) return [];
      this.#followed.alsoWhole(signed);
      const persist = { kind: "persistState", signed: this.#followed.signedWhole()! } as const;
      // Hosts of 0.1.0 lack it too.
      return told && this.needWhole().length > 0 ? [persist, this.#news(state)] : [persist];
    }
    const cameByChanges = this.#followed.comesByChanges();
    this.#followed.whole(signed, state);
    return [
      { kind: "persistState", signed: this.#followed.proof()! },
      this.#news(state, cameByChanges),
      ...this.#merged(state, nowMs),
    ];
  }

  /** By the controller, its heads' signatures checked: others are told them as well, the newest of many. */
  changesTold(changes: readonly HeadedChange[], nowMs: number): ClusterOutput[] {
    return changes.flatMap((change, n) => {
      const [held, certificate] = [this.revision(), this.#followed.certificate()];
      const { signed, head } = change;
      const outputs = this.changeVerified(this.#modules.node, signed, head, nowMs);
      if (held >= head.revision || this.revision() < head.revision) return outputs;
      if (n < changes.length - MOST_TOLD_AT_ONCE) return outputs;
      return [...outputs, newsOfChange(change, certificate)];
    });
  }

  /** The head's signature holds; whether the change is the head's, and fits, is seen here. */
  changeVerified(
    from: NodeId,
    signed: SignedChange,
    head: StateHead,
    nowMs: number,
  ): ClusterOutput[] {
    const { counters } = this.#modules;
    const forked = this.#meet(head.base, head);
    const followed = this.#followed.follow({ signed, head });
    switch (followed.kind) {
      case "known":
        return forked;
      case "refused":
        counters.badState++;
        if (followed.why === "root") counters.misfits++;
        // It is true that there is such a state.
        return [...forked, ...this.#awaitFrom(from, head.revision, nowMs)];
      case "early":
        return [...forked, ...this.#awaitFrom(from, head.revision, nowMs)];
      case "followed": {
        counters.followed++;
        const gathered = this.#followed.gathered();
        const persist: ClusterOutput =
          gathered === undefined
            ? { kind: "persistChange", revision: head.revision, signed }
            : { kind: "persistState", signed: gathered };
        return [persist, ...this.#merged(followed.state, nowMs)];
      }
    }
  }

  /** The head's signature holds: the way to its objects begins, or goes on to it. */
  headVerified(from: NodeId, signed: SignedHead, head: StateHead, nowMs: number): ClusterOutput[] {
    const { state } = this.#tables;
    const forked = this.#meet(head);
    const isWanted = this.isPassedBy(head) && head.cluster === state?.cluster;
    if (!isWanted) return [...forked, ...this.#catchUp.failed(from, nowMs)];
    return [...forked, ...this.#catchUp.begin(from, signed, head, this.#followed.held(), nowMs)];
  }

  /** Of questions about objects: nothing of them shows before all are there. */
  catchUpAnswered(from: NodeId, answer: CatchUpAnswer, nowMs: number): ClusterOutput[] {
    const next = this.#catchUp.answered(from, answer, nowMs);
    if (!("held" in next)) return next;
    if (!this.isPassedBy(next.held.head)) return [];
    const cameByChanges = this.#followed.comesByChanges();
    let state: ClusterState;
    try {
      state = this.#followed.caughtUp(next.signed, next.held);
    } catch (error) {
      if (!(error instanceof OverlayError)) throw error;
      this.#modules.counters.badState++;
      return [];
    }
    return [
      { kind: "persistState", signed: this.#followed.proof()! },
      this.#news(state, cameByChanges),
      ...this.#merged(state, nowMs),
    ];
  }

  catchUpFailed(from: NodeId, nowMs: number): ClusterOutput[] {
    return this.#catchUp.failed(from, nowMs);
  }

  /** To who catches up; of a state that is not here the head of the one that is. */
  answerCatchUp(request: CatchUpRequest): CatchUpAnswer {
    const held = this.#followed.ofRoot(request.root);
    if (held !== undefined) return answerOf(answerTo(questionOf(request), held, MOST_ANSWER_BYTES));
    const head = this.#followed.signedHead();
    return { v: 1, kind: "stateHead", ...(head === undefined ? {} : { head }) };
  }

  /** A member was put back to 0.1.0: who has the state whole tells it, and all keep it for who asks. */
  hostChanged(before: HostDocument | undefined, after: HostDocument): ClusterOutput[] {
    const { state } = this.#tables;
    const isBack = followsChanges(before) && !followsChanges(after);
    if (!isBack || state === undefined || this.#followed.signedWhole() === undefined) return [];
    return [this.#news(state)];
  }

  /** What came early may come no more. */
  tick(nowMs: number): ClusterOutput[] {
    const behind = this.#behind;
    const catchingUp = this.#catchUp.tick(nowMs);
    if (behind === undefined || behind.untilMs > nowMs) return catchingUp;
    this.#behind = undefined;
    return [...catchingUp, ...this.#modules.fetch(behind.from, nowMs)];
  }

  nextMs(): number {
    return Math.min(this.#behind?.untilMs ?? Infinity, this.#catchUp.nextMs());
  }

  revision(): number {
    return this.#tables.state?.revision ?? 0;
  }

  /** Of a question for a newer state. */
  takes(): Pick<Fetch, "objects" | "root"> {
    const root = this.needWhole().length === 0 ? this.#followed.root() : undefined;
    return { objects: true, ...(root === undefined ? {} : { root }) };
  }

  /** Of an answer of the controller: whole where it is to be handed on to hosts that need it so. */
  takesOfController(): Takes {
    const needWhole = this.needWhole().slice(0, BOUNDS.hostsNamed);
    // Where the state travels whole its root is not known, and costs what the state has.
    const isWhole = needWhole.length > 0 && this.#followed.signedWhole() !== undefined;
    const [root, revision] = [isWhole ? undefined : this.#followed.root(), this.revision()];
    return {
      ...(root === undefined ? {} : { held: { revision, root } }),
      ...(needWhole.length > 0 ? { needWhole } : {}),
    };
  }

  /** Some member needs the state whole, and this host has it only as objects. */
  lacksWhole(): boolean {
    return this.needWhole().length > 0 && this.#lacksWhole(this.revision());
  }

  /** For who asks: changes, or the head of objects, if it takes them; else the state as it was signed whole. */
  newerThan({ revision, objects, root }: Fetch): Pick<Fetched, "state" | "changes" | "head"> {
    const held = this.revision();
    // Of a fork, to who holds the other.
    const wins = held === revision && root !== undefined && (this.point()?.root ?? "") > root;
    if (held <= revision && !wins) return {};
    const changes = objects === true && !wins ? this.#followed.since(root) : undefined;
    if (changes !== undefined) return { changes: [...changes] };
    const state = wins ? undefined : this.#followed.signedWhole();
    if (state !== undefined) return { state };
    const head = objects === true ? this.#followed.signedHead() : undefined;
    return head === undefined ? {} : { head };
  }

  /** What is held, if it came under a head. */
  point(): StatePoint | undefined {
    return this.#followed.point();
  }

  /** For a comparison: where changes travel, the root as well. */
  compares(): { readonly revision: number; readonly root?: string } {
    const root = this.point()?.root;
    return { revision: this.revision(), ...(root === undefined ? {} : { root }) };
  }

  /** By the higher revision, and of two states of one revision by the greater root. */
  isPassedBy({
    revision,
    root,
  }: {
    readonly revision: number;
    readonly root?: string | undefined;
  }): boolean {
    if (revision !== this.revision() || root === undefined) return revision > this.revision();
    const held = this.point();
    return held !== undefined && compareHeads({ revision, root }, held) > 0;
  }

  /** A revision not long ago of which there were two states; undefined: there was none. */
  fork(): number | undefined {
    return this.#forks.shown(this.revision());
  }

  /** Members that need the state whole: those of 0.1.0. */
  needWhole(): NodeId[] {
    const { state } = this.#tables;
    return state === undefined ? [] : needWhole(state, this.#tables);
  }

  /** What is held, as it was signed and is on disk. */
  signed(): ReturnType<FollowedState["signed"]> {
    return this.#followed.signed();
  }

  /** The same in one, for who takes one only. */
  proof(): SignedState | undefined {
    return this.#followed.proof();
  }

  #merged(state: ClusterState, nowMs: number): ClusterOutput[] {
    const { members } = this.#tables;
    this.#tables.mergeState(state, state.revision === this.revision());
    const { counters, merged, node } = this.#modules;
    counters.merged++;
    if (state.revision >= (this.#behind?.revision ?? 0)) this.#behind = undefined;
    if (state.revision >= (this.#catchUp.towards() ?? Infinity)) this.#catchUp.end();
    const outputs = merged(state, members, nowMs);
    const early = this.#followed.next();
    if (early === undefined) return outputs;
    return [...outputs, ...this.changeVerified(node, early.signed, early.head, nowMs)];
  }

  /** What others are told of a state that came whole: where all follow, they have the changes, or get them. */
  #news(state: ClusterState, cameByChanges = false): ClusterOutput {
    const { revision } = state;
    const isKnown = this.needWhole().length === 0 && cameByChanges;
    return newsOfState(revision, isKnown ? undefined : this.#followed.signedWhole());
  }

  /** It is newer, or the same as it is signed for all hosts, which others may ask for. */
  #isWanted(revision: number): boolean {
    if (revision !== this.revision()) return revision > this.revision();
    return this.#lacksWhole(revision) && this.needWhole().length > 0;
  }

  #lacksWhole(revision: number): boolean {
    return revision === this.revision() && this.#followed.signedWhole() === undefined;
  }

  #verify(from: NodeId, signed: SignedChange): ClusterOutput {
    const controllerCertificate = signed.controllerCertificate ?? this.#followed.certificate();
    return { kind: "verifyChange", from, signed, controllerCertificate };
  }

  /** Points that the controller signed. */
  #meet(...points: readonly (StatePoint | undefined)[]): ClusterOutput[] {
    const revision = this.revision();
    const held = points.some((point) => point?.revision === revision) ? this.point() : undefined;
    if (!this.#forks.meet(held, points)) return [];
    this.#modules.counters.forks++;
    return [{ kind: "changed" }];
  }

  /** Of the revision that is held it is only if it is of a fork. */
  #isNews({
    revision,
    change,
  }: {
    readonly revision: number;
    readonly change: SignedChange;
  }): boolean {
    if (revision !== this.revision()) return revision > this.revision();
    const root = rootIn(change.jws);
    const held = this.point();
    return root !== undefined && held !== undefined && root !== held.root;
  }

  #another(than: NodeId): NodeId | undefined {
    const { peers, random } = this.#modules;
    const others = peers().filter(
      (peer) => peer !== than && followsChanges(this.#tables.hosts.get(peer)),
    );
    return others[random.below(Math.max(1, others.length))];
  }

  /** Gossip has other ways: what is on them is waited for a little. */
  #awaitFrom(from: NodeId, revision: number, nowMs: number): ClusterOutput[] {
    const untilMs = this.#behind?.untilMs ?? nowMs + ON_ITS_WAY_MS;
    if (from !== this.#modules.node && revision > (this.#behind?.revision ?? 0))
      this.#behind = { revision, from, untilMs };
    return [];
  }
}

/** Whoever signed it. */
function rootIn(jws: string): string | undefined {
  try {
    return headIn(jws).root;
  } catch {
    return undefined;
  }
}
