import type { NodeId } from "../../../shared/ids.ts";

/** How a host that shares a network with us is asked; the others' answers are only shown. */
export interface PresenceOptions {
  readonly nearPeriodMs: number;
  readonly farPeriodMs: number;
  /** For one answer. */
  readonly timeoutMs: number;
  /** In a row; each after the first is asked for at once. */
  readonly missesToLose: number;
  /** Of all hosts together: with many, each is asked more rarely. */
  readonly maxProbesPerSecond: number;
  /** For the first answer of all: the silence of one that never answered counts only after it. */
  readonly firstAnswerMs: number;
}

/** A dead host is lost after at most nearPeriodMs + missesToLose * timeoutMs: 2.2 s. */
export const DEFAULT_PRESENCE_OPTIONS: PresenceOptions = {
  nearPeriodMs: 1000,
  farPeriodMs: 5000,
  timeoutMs: 400,
  missesToLose: 3,
  maxProbesPerSecond: 100,
  firstAnswerMs: 0,
};

/**
 * Through a tunnel, by those who share a network of its kind: it has keys to agree on first (a handshake that came too
 * early is tried again after five seconds), and may be a process that waits for CPU.
 */
export const TUNNEL_PRESENCE_OPTIONS: PresenceOptions = {
  ...DEFAULT_PRESENCE_OPTIONS,
  timeoutMs: 1000,
  firstAnswerMs: 15_000,
};

/** Whose turn is so soon is asked together with those whose turn it is, so many at a time: each round is a wake-up. */
const TOGETHER_MS = 250;
const MOST_TOGETHER = 32;

interface Peer {
  readonly sinceMs: number;
  /** It answered once. */
  known: boolean;
  near: boolean;
  nextMs: number;
  misses: number;
  lost: boolean;
  /** It was asked, and has its time for the answer. */
  asked: boolean;
}

const NEW_PEER = { known: false, misses: 0, lost: false, asked: false };

/**
 * Which hosts this one reaches, by what their kernels answer: a host whose agent is silent is not lost,
 * one whose kernel is silent is. A view of this host alone, and the one that counts for whom its
 * containers are sent to. No clock, no I/O.
 */
export class Presence {
  readonly #options: PresenceOptions;
  readonly #peers = new Map<NodeId, Peer>();
  readonly #lost = new Set<NodeId>();
  readonly #answering = new Set<NodeId>();

  constructor(options: PresenceOptions = DEFAULT_PRESENCE_OPTIONS) {
    this.#options = options;
  }

  /** All peers, and which of them share a network with this host. A new one is asked at once. */
  set(peers: readonly NodeId[], near: ReadonlySet<NodeId>, nowMs: number): void {
    const wanted = new Set(peers);
    for (const node of this.#peers.keys())
      if (!wanted.has(node)) {
        this.#peers.delete(node);
        this.#lost.delete(node);
        this.#answering.delete(node);
      }
    for (const node of wanted) {
      const held = this.#peers.get(node);
      if (held === undefined)
        this.#peers.set(node, { ...NEW_PEER, near: near.has(node), sinceMs: nowMs, nextMs: nowMs });
      else {
        if (near.has(node) && !held.near) held.nextMs = Math.min(held.nextMs, nowMs);
        held.near = near.has(node);
      }
    }
  }

  /** Whom to ask now; each is asked again only after `heard`, or after its period. */
  due(nowMs: number): NodeId[] {
    const due = [...this.#peers].filter(([, { nextMs }]) => nextMs <= nowMs);
    if (due.length > 0) due.push(...this.#soon(nowMs).slice(0, MOST_TOGETHER));
    for (const [, peer] of due) {
      peer.nextMs = nowMs + this.#period(peer);
      peer.asked = true;
    }
    return due.map(([node]) => node);
  }

  #soon(nowMs: number): [NodeId, Peer][] {
    const untilMs = nowMs + TOGETHER_MS;
    return [...this.#peers].filter(
      ([, { asked, nextMs }]) => !asked && nextMs > nowMs && nextMs <= untilMs,
    );
  }

  /** When `due` has somebody next; undefined: there are no peers. */
  nextMs(): number | undefined {
    const times = [...this.#peers.values()].map(({ nextMs }) => nextMs);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** @returns whether the host was lost, or found again, by it. */
  heard(node: NodeId, answered: boolean, nowMs: number): boolean {
    const peer = this.#peers.get(node);
    if (peer === undefined) return false;
    const before = peer.lost;
    peer.known ||= answered;
    peer.asked = false;
    const counts = peer.known || nowMs - peer.sinceMs >= this.#options.firstAnswerMs;
    peer.misses = answered || !counts ? 0 : peer.misses + 1;
    peer.lost = peer.misses >= this.#options.missesToLose;
    if (peer.near && peer.misses > 0 && !peer.lost) peer.nextMs = nowMs;
    isIn(this.#lost, node, peer.lost);
    isIn(this.#answering, node, answered);
    return peer.lost !== before;
  }

  /** Something else went silent, a connection of the mesh: its kernel is asked at once. */
  doubt(node: NodeId, nowMs: number): void {
    const peer = this.#peers.get(node);
    if (peer !== undefined) peer.nextMs = Math.min(peer.nextMs, nowMs);
  }

  /** As it is from now on, too: no list of all hosts is made for each answer. */
  lost(): ReadonlySet<NodeId> {
    return this.#lost;
  }

  /** It answered when it was asked last. */
  isAnswering(node: NodeId): boolean {
    return this.#answering.has(node);
  }

  /** Those who answered when they were asked last, as `lost`. */
  answering(): ReadonlySet<NodeId> {
    return this.#answering;
  }

  #period({ near }: Peer): number {
    const { nearPeriodMs, farPeriodMs, maxProbesPerSecond } = this.#options;
    const least = (this.#peers.size * 1000) / maxProbesPerSecond;
    return Math.max(near ? nearPeriodMs : farPeriodMs, least);
  }
}

function isIn<T>(set: Set<T>, one: T, is: boolean): void {
  if (is) set.add(one);
  else set.delete(one);
}
