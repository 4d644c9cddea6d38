import { fromBase64Url } from "../shared/base64url.ts";
import type {
  BlockRecord,
  ClusterState,
  KeySchedule,
  NodeRecord,
  SignedState,
  Takes,
} from "../shared/cluster-state.ts";
import { asFailure, assert, type Failure, OverlayError } from "../shared/errors.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import type { Ip } from "../shared/ip.ts";
import type { Clock, Hasher, Log, Random } from "../shared/ports.ts";
import { sealTo } from "../shared/sealed-box.ts";
import { formatToken, notItsController } from "../shared/token.ts";
import { isFork as isForkOf, type StatePoint } from "../shared/state/head.ts";
import { verifySigned } from "../shared/node/signed-state.ts";
import { type KeyPair, signClaim } from "../shared/trust.ts";
import { admitNode, revokeNode } from "./core/admission.ts";
import { allotBlock, allowedNetwork, grantAddress, returnBlock } from "./core/blocks.ts";
import { changeKeySchedule, type KeyScheduleChanges, rotateDueKeys } from "./core/key-schedule.ts";
import { checkJoined, checkMoved, sharedWith, withMachine } from "./core/machines.ts";
import {
  createNetwork,
  nameNetwork,
  networkOf,
  removeNetwork,
  rotateKeys,
} from "./core/networks.ts";
import { QUARANTINE_MS, released } from "./core/quarantine.ts";
import { checkOrigin, readdressNode } from "./core/readdress.ts";
import {
  admittedNode,
  type Context,
  type ControllerRecord,
  type Transition,
} from "./core/record.ts";
import { behind, standingOf } from "./core/standing.ts";
import { changeUnderlay } from "./core/underlay.ts";
import { addVip, endVip, removeVip } from "./core/vips.ts";
import { checkToken, issueToken, type TokenRequest, useToken } from "./core/tokens.ts";
import { checkSize, type OldHosts } from "./encoded-record.ts";
import { recordOf, rowChanges, wholeOf } from "./record-rows.ts";
import type { ControllerFacts } from "./metrics.ts";
import { RequestCounts } from "./request-counts.ts";
import { checkFitsWhole, StateSigner } from "./state-signer.ts";
import type { ControllerStore, StoreHead } from "./store/port.ts";
import type {
  AnswerOf,
  ControlAnswer,
  ControlRequest,
  RequestOf,
  SealedKey,
} from "./wire/messages.ts";

export interface ControllerModules {
  readonly store: ControllerStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly hasher: Hasher;
  readonly log: Log;
}

/** `bytes`: of all rows. */
type Decoded = StoreHead & { readonly record: ControllerRecord; readonly bytes: number };

export interface ControllerKeys {
  readonly controller: KeyPair;
  /** The root key's word for the controller's. */
  readonly certificate: string;
  readonly rootKey: Uint8Array;
}

/**
 * Serves hosts and the local administrator: a request is a transition of the stored record, kept
 * by compare-and-set, then signed and told. The record on disk is the truth, nothing is cached
 * but the last signatures and the objects that they are over.
 */
export class Controller {
  readonly #keys: ControllerKeys;
  readonly #modules: ControllerModules;
  readonly #signer: StateSigner;
  readonly #listeners = new Set<() => void>();
  readonly #requests = new RequestCounts();
  /** By the agent on this host, which hears what all hosts say of themselves. */
  #old: OldHosts;
  /** What the store held last. */
  #decoded: Decoded | undefined;
  /** The newest state that was shown to this controller, where that is newer than its own. */
  #met: ClusterState | undefined;
  /** Transitions run one after another: here two of them would only collide. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(keys: ControllerKeys, modules: ControllerModules) {
    this.#keys = keys;
    this.#modules = modules;
    this.#signer = new StateSigner(keys, modules.hasher);
  }

  /** Told that there is a new state; until the returned function is called. */
  onState(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async state(): Promise<ClusterState> {
    return (await this.#read()).record.state;
  }

  /** For metrics. */
  async measured(): Promise<Pick<ControllerFacts, "record" | "bytes" | "requests">> {
    const { record, bytes } = await this.#read();
    return { record, bytes, requests: this.#requests.all() };
  }

  /** As the asking host takes it. @throws STALE while it must decide nothing; UNSUPPORTED, as `StateSigner.sign` */
  async signedState(takes?: Takes): Promise<SignedState> {
    return this.#signer.sign((await this.#serving()).state, takes);
  }

  /** What it knows, for whoever may know something else. */
  async point(): Promise<StatePoint> {
    return this.#signer.pointOf(await this.state());
  }

  /** Why it decides nothing; undefined: it serves. */
  async problem(): Promise<Failure | undefined> {
    return standingOf((await this.#read()).record, this.#met);
  }

  /**
   * A state that some host holds. One that is newer than this controller's own says that its data are
   * old, or that another has taken over. @throws UNAUTHENTICATED unless it is of this cluster.
   */
  async met(signed: SignedState): Promise<void> {
    const state = await verifySigned(this.#keys.rootKey, signed);
    const own = await this.state();
    if (state.cluster !== own.cluster) return;
    const isFork = isForkOf(this.#signer.pointOf(own), this.#signer.pointOf(state));
    if (isFork || state.revision > (this.#met ?? own).revision) this.#met = state;
  }

  /** The record was changed by somebody else, who cannot tell who watches. */
  async announce(): Promise<void> {
    this.#tell((await this.#serving()).state);
  }

  /** To a host that watches: the newest revision, and nothing to one that was removed meanwhile. */
  news(from: NodeId): Promise<ControlAnswer> {
    return this.#answering(from, "news", async () => {
      const record = await this.#serving();
      admittedNode(record, from);
      return { v: 1, kind: "news", revision: record.state.revision };
    });
  }

  /**
   * A host's request; `from` is who Noise says it is, `origin` the address that its connection comes from.
   * Failures are answers.
   */
  handle(from: NodeId, request: ControlRequest, origin?: Ip): Promise<ControlAnswer> {
    return this.#answering(from, request.kind, () => this.#handle(from, request, origin));
  }

  async #answering(
    from: NodeId,
    kind: string,
    answer: () => Promise<ControlAnswer>,
  ): Promise<ControlAnswer> {
    try {
      const answered = await answer();
      this.#requests.count(kind, "ok");
      return answered;
    } catch (error) {
      const { code, message, next } = asFailure(error);
      this.#requests.count(kind, code === "INTERNAL" ? "failed" : "refused");
      if (code === "INTERNAL") this.#modules.log.error({ err: error, kind }, "request failed");
      else this.#modules.log.info({ from, kind, code, message }, "request refused");
      return {
        v: 1,
        kind: "failed",
        failure: { code, message, ...(next === undefined ? {} : { next }) },
      };
    }
  }

  /** The administrator's: by the local socket only. */
  async createToken(request: TokenRequest): Promise<{ token: string; expiresAtMs: number }> {
    const { hasher } = this.#modules;
    const { id, secret, expiresAtMs, cluster } = await this.#commit((record, context) => {
      const issued = issueToken(record, request, hasher, context);
      const result = { ...issued.result, cluster: record.state.cluster };
      return { record: issued.record, result };
    });
    const rootHash = hasher.sha256(this.#keys.rootKey);
    return { token: formatToken({ cluster, rootHash, id, secret }), expiresAtMs };
  }

  /** Out for good; keys of all networks it may have held are made anew. */
  removeNode(name: string): Promise<NodeRecord> {
    return this.#commit((record, context) => {
      const untilMs = context.wallMs + QUARANTINE_MS;
      const { record: without, result } = revokeNode(record, name, untilMs);
      const held = record.state.networks.map(({ id }) => id);
      return { record: rotateKeys(without, held, context), result };
    });
  }

  /** The administrator's: when keys change by themselves from now on. */
  changeKeySchedule(changes: KeyScheduleChanges): Promise<KeySchedule> {
    return this.#commit((record) => changeKeySchedule(record, changes));
  }

  /** Gossip keys as old as the schedule allows are made anew; to be called now and then. */
  rotateDueKeys(): Promise<void> {
    return this.#commit((record, context) => ({
      record: rotateDueKeys(record, context),
      result: undefined,
    }));
  }

  async #handle(
    from: NodeId,
    request: ControlRequest,
    origin: Ip | undefined,
  ): Promise<ControlAnswer> {
    if (request.kind === "join") return this.#join(from, request);
    const record = await this.#serving();
    admittedNode(record, from);
    const holds = request.kind === "state" ? request.revision : request.holds;
    orThrow(behind(record, holds ?? 0));
    const { takes } = request;
    // Before it is carried out: what it leads to could not be answered.
    if (takes === undefined) checkFitsWhole(record.state);
    else if (from === record.state.controller.node) this.#old = takes.needWhole ?? [];
    switch (request.kind) {
      case "state": {
        const { state } = record;
        return state.revision > request.revision
          ? { v: 1, kind: "state", state: await this.#signer.sign(state, takes) }
          : { v: 1, kind: "state" };
      }
      case "readdress":
        checkOrigin(request.facts.address, origin);
        // Containers' packets go there, from all the others.
        checkOrigin(request.facts.vtep, origin);
        return this.#readdress(from, request);
      case "underlay":
        await this.#commit((record) => changeUnderlay(record, from, request.facts));
        return { v: 1, kind: "done", state: await this.signedState(takes) };
      case "createNetwork": {
        const network = await this.#commit((record, context) =>
          createNetwork(record, from, request.network, context),
        );
        return { v: 1, kind: "network", network, state: await this.signedState(takes) };
      }
      case "nameNetwork": {
        const network = await this.#commit((record) =>
          nameNetwork(record, from, request.network, request),
        );
        return { v: 1, kind: "network", network, state: await this.signedState(takes) };
      }
      case "removeNetwork":
        await this.#commit((record) => removeNetwork(record, from, request.network));
        return { v: 1, kind: "done", state: await this.signedState(takes) };
      case "allotBlock":
        return this.#blockAnswer(from, request, (record) =>
          allotBlock(record, from, request.network, request.family),
        );
      case "grantAddress":
        return this.#blockAnswer(from, request, (record) =>
          grantAddress(record, from, request.network, request.ip),
        );
      case "returnBlock":
        await this.#commit((record) =>
          returnBlock(record, from, request.network, request.block, request.holds),
        );
        return { v: 1, kind: "done", state: await this.signedState(takes) };
      case "addVip": {
        const vip = await this.#commit((record) => addVip(record, from, request));
        return { v: 1, kind: "vip", vip, state: await this.signedState(takes) };
      }
      case "removeVip": {
        const remove = request.unheld === true ? endVip : removeVip;
        const { network, name } = request;
        await this.#commit((record, context) => remove(record, from, network, name, context));
        return { v: 1, kind: "done", state: await this.signedState(takes) };
      }
      case "rotateKey":
        await this.#commit((record, context) => {
          allowedNetwork(record, from, request.network);
          return { record: rotateKeys(record, [request.network], context), result: undefined };
        });
        return { v: 1, kind: "done", state: await this.signedState(takes) };
      case "networkKey":
        return { v: 1, kind: "key", key: await this.#sealedKey(from, request.network) };
    }
  }

  async #blockAnswer(
    from: NodeId,
    { network, takes }: RequestOf<"allotBlock" | "grantAddress">,
    transition: (record: ControllerRecord) => Transition<BlockRecord>,
  ): Promise<ControlAnswer> {
    const block = await this.#commit(transition);
    const key = await this.#sealedKey(from, network);
    return { v: 1, kind: "block", block, key, state: await this.signedState(takes) };
  }

  async #join(from: NodeId, request: RequestOf<"join">): Promise<ControlAnswer> {
    const { hasher, clock, log } = this.#modules;
    const { facts, machine, takes } = request;
    // Else it would be a member that cannot read what it is answered.
    if (takes === undefined) checkFitsWhole(await this.state());
    const { node, shared } = await this.#commit((record, { wallMs }) => {
      const { cluster = record.state.cluster } = request;
      if (cluster !== record.state.cluster) throw notItsController(cluster);
      const token = checkToken(record, request, hasher, wallMs);
      const known = record.state.nodes.some((held) => held.id === from);
      checkJoined(record, from, { ...request, address: facts.address });
      const admitted = admitNode(record, from, facts, token.networks, wallMs);
      const next = withMachine(admitted.record, from, machine);
      return {
        // A joiner that did not hear the answer asks again, at no cost to the token.
        record: known ? next : useToken(next, token),
        result: { node: admitted.result, shared: sharedWith(next, from) },
      };
    });
    const { name } = node;
    log.info({ node: from, name, wallMs: clock.wallMs() }, "host admitted");
    if (shared !== undefined)
      log.warn({ node: from, name, other: shared }, "two members say the same machine id");
    const answer = await this.#joined(node, takes);
    return shared === undefined ? answer : { ...answer, machineSharedWith: shared };
  }

  async #readdress(from: NodeId, request: RequestOf<"readdress">): Promise<ControlAnswer> {
    const node = await this.#commit((record, { wallMs }) => {
      checkMoved(record, from, request);
      const moved = readdressNode(record, from, request.facts, wallMs + QUARANTINE_MS);
      if (request.machine === undefined) return moved;
      return { ...moved, record: withMachine(moved.record, from, request.machine) };
    });
    this.#modules.log.info({ node: from, name: node.name }, "host has another address");
    return this.#joined(node, request.takes);
  }

  async #joined(node: NodeRecord, takes: Takes | undefined): Promise<AnswerOf<"joined">> {
    const state = await this.state();
    const claim = { cluster: state.cluster, revision: state.revision, node };
    const { controller, certificate, rootKey } = this.#keys;
    return {
      v: 1,
      kind: "joined",
      rootKey,
      claim: await signClaim(controller, certificate, claim),
      state: await this.#signer.signFirst(state, takes),
    };
  }

  async #sealedKey(from: NodeId, network: NetworkId): Promise<SealedKey> {
    const { record } = await this.#read();
    allowedNetwork(record, from, network);
    const key = record.networkKeys[network];
    assert(key !== undefined, "every network has a key");
    const { sealKey } = admittedNode(record, from);
    return {
      epoch: networkOf(record.state, network).keyEpoch,
      sealed: sealTo(fromBase64Url(sealKey), fromBase64Url(key), this.#modules.random),
    };
  }

  #commit<T>(
    transition: (record: ControllerRecord, context: Context) => Transition<T>,
  ): Promise<T> {
    const done = this.#last.then(
      () => this.#compareAndSet(transition),
      () => this.#compareAndSet(transition),
    );
    this.#last = done;
    return done;
  }

  async #compareAndSet<T>(
    transition: (record: ControllerRecord, context: Context) => Transition<T>,
  ): Promise<T> {
    const { store, clock, random } = this.#modules;
    // Another controller may write too: again on what it wrote.
    for (let attempt = 0; attempt < 10; attempt++) {
      const { version, record, bytes: held } = await this.#read();
      orThrow(standingOf(record, this.#met));
      const wallMs = clock.wallMs();
      const current = released(record, wallMs);
      const next = transition(current, { wallMs, random });
      // What was released is kept even if nothing else changes: an end that was moved stays where it is.
      if (next.record === record) return next.result;
      const changes = rowChanges(record, next.record);
      const bytes = held + changes.grewBytes;
      checkSize(record, next.record, { held, bytes }, this.#old);
      this.#signer.goesOnFrom(record.state);
      if (!(await store.write(version, changes))) continue;
      const head = await store.head();
      // Unless another one has written meanwhile.
      if (head?.version === version + 1) this.#decoded = { ...head, bytes, record: next.record };
      if (next.record.state.revision !== record.state.revision) this.#tell(next.record.state);
      return next.result;
    }
    throw new OverlayError({
      code: "STALE",
      message: "other controllers change the cluster faster than this one",
      next: "try again",
    });
  }

  #tell(state: ClusterState): void {
    this.#signer.goesOnFrom(state);
    for (const listener of this.#listeners) listener();
  }

  /** @throws STALE */
  async #serving(): Promise<ControllerRecord> {
    const { record } = await this.#read();
    orThrow(standingOf(record, this.#met));
    return record;
  }

  async #read(): Promise<Decoded> {
    const { store } = this.#modules;
    const held = this.#decoded;
    const head = held && (await store.head());
    // Read once: a request costs what it changes, not what the whole cluster is.
    if (held !== undefined && head?.version === held.version && head.mark === held.mark)
      return held;
    const stored = await store.read();
    if (stored === undefined)
      throw new OverlayError({
        code: "STORE",
        message: "the controller's database is empty",
        next: "restore it from a backup, or make a cluster with `overlay-ts init`",
      });
    const { version, mark, rows } = stored;
    const record = recordOf(rows);
    this.#decoded = { version, mark, record, bytes: wholeOf(record).grewBytes };
    return this.#decoded;
  }
}

function orThrow(failure: Failure | undefined): void {
  if (failure !== undefined) throw new OverlayError(failure);
}
