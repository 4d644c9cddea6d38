import { isDeepStrictEqual } from "node:util";
import type { Failure } from "../../shared/errors.ts";
import type { SecurityClass } from "../../shared/cluster-state.ts";
import type { NodeId } from "../../shared/ids.ts";
import type { Clock, Log, Timers } from "../../shared/ports.ts";
import type { Asked } from "../core/data-plane/kernel-state.ts";
import { isReached, narrowPaths } from "../core/liveness/narrow-paths.ts";
import { Presence, type PresenceOptions } from "../core/liveness/failure-detector.ts";
import type { Found } from "../core/liveness/reach.ts";
import type { DataPathProof, ProbeResult } from "../kernel/port.ts";
import { Histogram, type HistogramCounts } from "../../shared/histogram.ts";
import { RetriedWork } from "../../shared/node/retried-work.ts";

const RETRY_MS = 1000;
/** For a person who asks. */
const PATIENT_MS = 1000;
/** Of a packet that passes wherever IPv4 does (RFC 791: each link carries 68 bytes, each host takes 576). */
const SMALL_BYTES = 48;
/** Between two questions at full size to a host that answered the last one: the path's MTU seldom changes. */
const FULL_SIZE_MS = 30_000;

/** From two hosts on one switch to two on two continents. */
const ROUND_TRIPS_MS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500];

/** What is sent: `both`, to tell a host that is silent from a path that loses large packets. */
type Sizes = "full" | "small" | "both";

type Peer = Asked["peers"][number];

export interface ProofStatus extends ProbeResult {
  readonly node: NodeId;
  readonly name: string;
  /** Of the networks whose packets pass where this one passed. Absent of an agent of before: `none`. */
  readonly encryption?: SecurityClass;
  /** Of a small packet, sent beside one of full size when that was silent before; undefined: not sent, or silent too. */
  readonly smallRoundTripMs?: number | undefined;
}

/** Of all packets to all hosts, since the start. */
export interface ProbeCounts {
  readonly took: HistogramCounts;
  /** Not answered in time. */
  readonly lost: number;
}

export interface FailureDetectorModules<Desired extends Asked> {
  readonly encryption: SecurityClass;
  readonly presence: PresenceOptions;
  readonly proof: DataPathProof<Desired>;
  /** Undefined: nobody is asked now, and what stands stays. */
  readonly desired: () => Desired | undefined;
  /** True: nobody will be, and what stands goes. */
  readonly unused?: () => boolean;
  /** Hosts that share a network with this one. */
  readonly near: () => ReadonlySet<NodeId>;
  readonly name: (node: NodeId) => string;
  /** `found` may say something else. */
  readonly changed: () => void;
  /** `failure` says something else. */
  readonly failureChanged?: () => void;
  readonly clock: Pick<Clock, "nowMs">;
  readonly timers: Timers;
  readonly log: Log;
}

/**
 * Asks peers' kernels, through one class at full MTU, whether they are there; always on. What it finds
 * is in `status`, and decides whose containers are in answers to names.
 */
export class FailureDetector<Desired extends Asked> {
  readonly #modules: FailureDetectorModules<Desired>;
  readonly #presence: Presence;
  readonly #results = new Map<NodeId, ProofStatus>();
  /** When a host that answers is to be asked at full size again. */
  readonly #fullDueMs = new Map<NodeId, number>();
  #cancel: () => void = () => {};
  #desired: Desired | undefined;
  /** Of it, by host. */
  #peers: { readonly of: Desired | undefined; readonly by: ReadonlyMap<NodeId, Peer> } = {
    of: undefined,
    by: new Map(),
  };
  /** As the kernel was told last; undefined: to be told with the next round. */
  #written: Desired | undefined;
  /** The kernel has it, by the last write that succeeded; undefined: it is to be looked at. */
  #stands: Desired | undefined;
  /** Nothing stands. */
  #isClear = false;
  #setting: Promise<void> = Promise.resolve();
  #started = false;
  #inRound = false;
  #stopped = false;
  readonly #took = new Histogram(ROUND_TRIPS_MS);
  #lost = 0;
  readonly #retried: RetriedWork;
  readonly #narrow: RetriedWork;

  constructor(modules: FailureDetectorModules<Desired>) {
    this.#modules = modules;
    const { presence, encryption } = modules;
    this.#presence = new Presence(presence);
    const told = (text: string) => (failure: Failure | undefined) => {
      if (failure !== undefined) modules.log.warn({ ...failure, encryption }, text);
      modules.failureChanged?.();
    };
    this.#retried = new RetriedWork(
      told(
        "other hosts cannot be asked through the data path, so a silent one is not noticed; tried again",
      ),
    );
    this.#narrow = new RetriedWork(
      told("large packets to some hosts are lost; containers' connections to them may hang"),
    );
  }

  /** Why it proves nothing now, or to whom large packets are lost. */
  failure(): Failure | undefined {
    return this.#retried.failure() ?? this.#narrow.failure();
  }

  start(): void {
    this.#started = true;
    this.#modules.proof.onLoss(() => this.check());
    void this.#round();
  }

  found(): Pick<Found, "lost" | "answering"> {
    return { lost: this.#presence.lost(), answering: this.#presence.answering() };
  }

  /** What stands may be another than what was written: it is written with the next round, now. */
  check(): void {
    this.#lookAgain();
    this.#schedule(this.#modules.clock.nowMs());
  }

  /** What is not as the state says, and the next round mends. */
  async faults(): Promise<string[]> {
    return this.#desired === undefined ? [] : this.#modules.proof.faults(this.#desired);
  }

  /** A connection of the mesh ended: host or agent may be gone. */
  doubt(node: NodeId): void {
    this.#presence.doubt(node, this.#modules.clock.nowMs());
    this.#schedule(this.#presence.nextMs());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    // One under way would open sockets again after they were closed, and keep the process.
    await this.#setting.catch(() => {});
    await this.#modules.proof.close();
  }

  results(): ProofStatus[] {
    return [...this.#results.values()];
  }

  probes(): ProbeCounts {
    return { took: this.#took.counts(), lost: this.#lost };
  }

  /** The state may have changed: a new host must be answered before we think of asking it. */
  async update(): Promise<Desired | undefined> {
    if (this.#stopped) return undefined;
    const desired = this.#modules.desired();
    const peers = desired?.peers.map(({ node }) => node) ?? [];
    this.#presence.set(peers, this.#modules.near(), this.#modules.clock.nowMs());
    this.#schedule(this.#presence.nextMs());
    this.#desired = desired;
    // Who is asked no more is not lost any more.
    this.#modules.changed();
    if (desired === undefined) {
      await this.#clear();
      return undefined;
    }
    if (isDeepStrictEqual(desired, this.#written)) return desired;
    this.#written = desired;
    this.#isClear = false;
    try {
      await this.#write(async () => {
        const stands = this.#stands;
        this.#stands = undefined;
        await this.#modules.proof.set(desired, stands);
        // Unless it is to be looked at again meanwhile.
        if (this.#written !== undefined) this.#stands = desired;
      });
    } catch (error) {
      this.#written = undefined;
      throw error;
    }
    return desired;
  }

  #lookAgain(): void {
    this.#written = undefined;
    this.#stands = undefined;
  }

  /** What an agent before this one left goes too. */
  async #clear(): Promise<void> {
    const { unused, proof } = this.#modules;
    if (this.#isClear || unused?.() !== true) return;
    this.#lookAgain();
    await this.#write(() => proof.remove());
    this.#isClear = true;
  }

  /** One after another: an older one that ended later would take the newer one's peers away. */
  async #write(work: () => Promise<void>): Promise<void> {
    this.#setting = this.#setting.catch(() => {}).then(work);
    await this.#retried.through(() => this.#setting);
  }

  /** Each peer once, now. */
  async probeAll(): Promise<ProofStatus[]> {
    const desired = await this.update();
    const peers = desired?.peers ?? [];
    return Promise.all(peers.map((peer) => this.#probe(peer, PATIENT_MS, "both")));
  }

  async #probe(peer: Peer, timeoutMs: number, sizes: Sizes): Promise<ProofStatus> {
    const { node } = peer;
    const before = this.#results.get(node);
    const result = await this.#answerTo(peer, timeoutMs, sizes);
    // Of many hosts, so nearly always: nothing is looked through for an answer that says what the last one said.
    const isSame =
      this.#presence.isAnswering(node) &&
      before?.roundTripMs !== undefined &&
      result.roundTripMs !== undefined;
    this.#results.set(node, result);
    // A host that small packets reach is not lost, whatever becomes of large ones.
    this.#presence.heard(node, isReached(result), this.#modules.clock.nowMs());
    if (isSame) return result;
    this.#narrow.went(narrowPaths(this.results()));
    this.#modules.changed();
    // Nobody answers: should it be our own device that is gone, it is made again.
    if (!this.results().some(isReached)) this.#lookAgain();
    this.#schedule(this.#presence.nextMs());
    return result;
  }

  /** An answer to a small packet alone leaves what was found at full size as it is; its silence does not. */
  async #answerTo(peer: Peer, timeoutMs: number, sizes: Sizes): Promise<ProofStatus> {
    const { node, address } = peer;
    const { proof, name, encryption, clock } = this.#modules;
    const [full, small] = await Promise.all([
      sizes === "small" ? undefined : proof.probe(address, timeoutMs),
      sizes === "full" ? undefined : proof.probe(address, timeoutMs, SMALL_BYTES),
    ]);
    for (const sent of [full, small]) this.#count(sent);
    const held = this.#results.get(node);
    if (full !== undefined) {
      this.#fullDueMs.set(node, clock.nowMs() + FULL_SIZE_MS);
      const smallRoundTripMs = small?.roundTripMs;
      return { ...full, smallRoundTripMs, node, name: name(node), encryption };
    }
    if (small?.roundTripMs !== undefined)
      return held?.roundTripMs === undefined ? this.#answerTo(peer, timeoutMs, "both") : held;
    const { mtuBytes: bytes = SMALL_BYTES } = this.#desired ?? {};
    return { address, bytes, roundTripMs: undefined, node, name: name(node), encryption };
  }

  #count(sent: ProbeResult | undefined): void {
    if (sent === undefined) return;
    if (sent.roundTripMs === undefined) this.#lost++;
    else this.#took.add(sent.roundTripMs);
  }

  /** Those whose turn it is. */
  async #round(): Promise<void> {
    const { presence } = this.#modules;
    this.#inRound = true;
    let failed = false;
    try {
      // Nothing was told since: what stands, stands.
      const desired = this.#written === undefined ? await this.update() : this.#desired;
      const peers = this.#peersOf(desired);
      const nowMs = this.#modules.clock.nowMs();
      for (const node of this.#presence.due(nowMs)) {
        const peer = peers.get(node);
        if (peer !== undefined)
          void this.#probe(peer, presence.timeoutMs, this.#sizesFor(node, nowMs)).catch(() => {});
      }
    } catch {
      // Noted where it was tried.
      failed = true;
      this.#results.clear();
    }
    this.#inRound = false;
    this.#schedule(failed ? this.#modules.clock.nowMs() + RETRY_MS : this.#presence.nextMs());
  }

  #peersOf(desired: Desired | undefined): ReadonlyMap<NodeId, Peer> {
    if (this.#peers.of === desired) return this.#peers.by;
    const by = new Map(desired?.peers.map((peer) => [peer.node, peer]));
    // What passes at another size says nothing of this one.
    if (desired?.mtuBytes !== this.#peers.of?.mtuBytes) this.#fullDueMs.clear();
    this.#peers = { of: desired, by };
    for (const held of [this.#results, this.#fullDueMs])
      for (const node of held.keys()) if (!by.has(node)) held.delete(node);
    this.#narrow.went(narrowPaths(this.results()));
    return by;
  }

  #sizesFor(node: NodeId, nowMs: number): Sizes {
    const last = this.#results.get(node);
    if (last === undefined) return "full";
    if (last.roundTripMs === undefined) return "both";
    return nowMs >= (this.#fullDueMs.get(node) ?? nowMs) ? "full" : "small";
  }

  /** The next round, which may be earlier than was thought. */
  #schedule(nextMs = this.#modules.clock.nowMs() + RETRY_MS): void {
    if (this.#stopped || !this.#started || this.#inRound) return;
    this.#cancel();
    const { clock, timers } = this.#modules;
    this.#cancel = timers.after(Math.max(1, nextMs - clock.nowMs()), () => void this.#round());
  }
}
