import { equalBytes } from "../../../shared/codec.ts";
import { OverlayError } from "../../../shared/errors.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Random } from "../../../shared/ports.ts";
import {
  decodeKeyAnswer,
  decodeKeyRequest,
  type KeyAnswer,
  type KeyRequest,
  SESSION_BYTES,
} from "./ipsec-messages.ts";
import type { KeyExchangeOptions, RekeyLimits } from "./ipsec-options.ts";
import { type KeyOutput, Outbox } from "./ipsec-outbox.ts";
import type { KeyExchangeCounters, Pair, PairActions } from "./ipsec-pair.ts";
import { Receiving } from "./ipsec-receiving.ts";
import { type AskFailure, Sending, type SendingStatus } from "./ipsec-sending.ts";
import type { HeldSa } from "./security-association.ts";

export interface PeerStatus {
  readonly node: NodeId;
  readonly vtep: Ip;
  readonly ready: boolean;
  readonly sending: SendingStatus | undefined;
  /** Inbound SAs; more than one while keys change. */
  readonly inbound: number;
  /** Why it has no newer key. */
  readonly failure: AskFailure | undefined;
}

interface Peer extends Pair {
  readonly sending: Sending;
  readonly receiving: Receiving;
  ready: boolean;
  /** When there is something to do but to ask, and when to ask: of a thousand only those are looked at. */
  nextMs: number;
  askAtMs: number;
}

/** A peer's keys of the address that it had before: neither changed nor reported, and in use until others are there. */
interface Former {
  readonly peer: Peer;
  readonly untilMs: number;
}

const NEW_PEER = { ready: false, nextMs: Infinity, askAtMs: Infinity };

/**
 * The keys of this host's pairs, one a direction. No I/O, no clock: inputs and `nowMs` in, outputs out.
 *
 * The receiver picks SPI and key; its kernel has them before the sender is told; the sender's kernel has
 * the new one before the old one goes; the receiver keeps its half until the sender said that it is
 * without. Every step waits for the one before, so a message lost costs time and never a packet. So it is with a peer
 * that has another VTEP: the pair of before stays until the new one has its keys, and for as long as the peer may
 * still send from there.
 */
export class KeyExchange {
  readonly counters: KeyExchangeCounters = {
    installed: 0,
    reported: 0,
    given: 0,
    refusedByPeer: 0,
    refusedToPeer: 0,
    unanswered: 0,
    lateAnswers: 0,
    malformed: 0,
    kernelFailures: 0,
    lost: 0,
    strays: 0,
  };
  readonly #local: Ip;
  #options: KeyExchangeOptions;
  readonly #random: Random;
  readonly #actions: PairActions;
  readonly #peers = new Map<NodeId, Peer>();
  readonly #former = new Map<NodeId, Former>();
  #wanted: ReadonlyMap<NodeId, Ip> | undefined;
  /** What the kernel has of an earlier process was read. */
  #adopted = false;
  #settledMs = Infinity;
  readonly #outbox: Outbox;
  readonly #spis = new Set<number>();

  constructor(local: Ip, options: KeyExchangeOptions, random: Random) {
    this.#local = local;
    this.#options = options;
    this.#random = random;
    const outbox = new Outbox(local, () => this.#options);
    this.#outbox = outbox;
    this.#actions = {
      local,
      options: () => this.#options,
      random,
      put: (pair, sa, key, done) => outbox.put(pair, sa, key, done),
      remove: (pair, sas, done) => outbox.remove(pair, sas, done),
      request: (pair, request, nowMs, done) => outbox.request(pair, request, nowMs, done),
      takeSpi: () => this.#takeSpi(),
      freeSpi: (spi) => this.#spis.delete(spi),
      count: (what) => this.counters[what]++,
    };
  }

  /** Other limits, for keys that are made from now on. */
  limit(limits: RekeyLimits): void {
    this.#options = { ...this.#options, ...limits };
  }

  /**
   * The hosts that share an encrypted network with us, by VTEP; nobody else gets a key. Comes before the
   * first `held`: what it does not name is then removed.
   */
  want(peers: ReadonlyMap<NodeId, Ip>, nowMs: number): KeyOutput[] {
    this.#wanted = peers;
    if (!this.#adopted) return [];
    this.#follow(peers, [], nowMs);
    return this.#settle(nowMs);
  }

  #follow(peers: ReadonlyMap<NodeId, Ip>, found: readonly HeldSa[], nowMs: number): void {
    for (const { node } of [...this.#former.values()].map(({ peer }) => peer))
      if (!peers.has(node)) this.#forgetFormer(node);
    for (const peer of this.#peers.values())
      if (!peers.has(peer.node)) this.#forget(peer);
      else if (peers.get(peer.node) !== peer.vtep) this.#retire(peer, peers.get(peer.node), nowMs);
    const taken = new Map<Ip, NodeId | undefined>([[this.#local, undefined]]);
    for (const { node, vtep } of this.#all()) taken.set(vtep, node);
    for (const [node, vtep] of [...peers].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      // Two hosts behind one address would have one pair's keys.
      if (this.#peers.has(node) || taken.has(vtep)) continue;
      taken.set(vtep, node);
      this.#remember(node, vtep, found, nowMs);
    }
  }

  /** With those of former addresses. */
  #all(): Peer[] {
    return [...this.#peers.values(), ...[...this.#former.values()].map(({ peer }) => peer)];
  }

  /** The peer has another VTEP. What there is between it and us stays, and it is no more asked. */
  #retire(peer: Peer, next: Ip | undefined, nowMs: number): void {
    const { node } = peer;
    this.#peers.delete(node);
    this.#outbox.endAll(peer, nowMs);
    const back = this.#former.get(node)?.peer;
    if (back?.vtep === next && back !== undefined) this.#peers.set(node, back);
    else this.#forgetFormer(node);
    this.#former.set(node, { peer, untilMs: nowMs + this.#options.formerMs });
  }

  #forgetFormer(node: NodeId): void {
    const former = this.#former.get(node);
    if (former === undefined) return;
    this.#former.delete(node);
    this.#removeAll(former.peer);
    if (former.peer.ready && this.vtepOf(node) === undefined) this.#outbox.path(node, false);
  }

  /**
   * All SAs with our reqid, after every step given so far was done.
   * @param leaves what is of an address that this host had before may go, once all is settled
   */
  held(sas: readonly HeldSa[], nowMs: number, leaves = true): KeyOutput[] {
    if (this.#wanted === undefined) return [];
    if (!this.#adopted) {
      this.#adopted = true;
      this.#settledMs = nowMs + this.#options.adoptedMs;
      for (const { destination, spi } of sas) if (destination === this.#local) this.#spis.add(spi);
      this.#follow(this.#wanted, sas, nowMs);
    }
    const [outbound, inbound, strays] = this.#byPeer(sas);
    for (const peer of this.#peers.values()) {
      peer.sending.held(outbound.get(peer.vtep) ?? [], nowMs);
      if (!peer.receiving.held(inbound.get(peer.vtep) ?? [])) continue;
      this.#newSession(peer, nowMs);
    }
    const useless = strays.filter((sa) => (leaves && this.isSettled(nowMs)) || this.#isHere(sa));
    if (useless.length > 0) {
      this.counters.strays += useless.length;
      this.#outbox.remove(undefined, useless, () => {});
    }
    return this.#settle(nowMs);
  }

  /**
   * All peers have their keys, or had the time for it: what is of an address that this host had before is of no use
   * to anybody any more.
   */
  isSettled(nowMs: number): boolean {
    if (!this.#adopted) return false;
    return nowMs >= this.#settledMs || [...this.#peers.values()].every(({ ready }) => ready);
  }

  #isHere({ source, destination }: HeldSa): boolean {
    return source === this.#local || destination === this.#local;
  }

  /** A peer's request; `id` is whatever the shell answers it by. */
  requested(id: number, from: NodeId, bytes: Uint8Array, nowMs: number): KeyOutput[] {
    const request = this.#decode(() => decodeKeyRequest(bytes));
    const peer = this.#peers.get(from);
    const answer = (answer: KeyAnswer): void => this.#outbox.answer(id, answer);
    const refuse = (): void => {
      this.counters.refusedToPeer++;
      const session = new Uint8Array(SESSION_BYTES);
      answer({ v: 1, kind: "refused", session, made: 0, reason: "not-wanted" });
    };
    if (request === undefined || peer === undefined || !this.#isOf(peer, request)) {
      refuse();
      return this.#outbox.drain();
    }
    this.#hear(peer, request.session, nowMs);
    if (request.kind === "using") answer(peer.receiving.using(request, nowMs));
    else
      peer.receiving.ask(request, (given) => {
        // No longer wanted while the kernel worked: its SA is on its way out.
        if (this.#peers.get(from) === peer) answer(given);
        else refuse();
      });
    return this.#settled(peer, nowMs);
  }

  /** Of the VTEPs that we know: who has not heard of another one yet, or has before us, asks again. */
  #isOf({ vtep }: Peer, { ends }: KeyRequest): boolean {
    return ends === undefined || (ends[0] === vtep && ends[1] === this.#local);
  }

  answered(id: number, bytes: Uint8Array, nowMs: number): KeyOutput[] {
    const pair = this.#outbox.pairOf(id);
    if (pair === undefined) {
      this.counters.lateAnswers++;
      return [];
    }
    const answer = this.#decode(() => decodeKeyAnswer(bytes));
    // A refusal for want of a table entry is no sign of what the peer holds.
    if (answer !== undefined && !(answer.kind === "refused" && answer.reason === "not-wanted"))
      this.#hear(pair as Peer, answer.session, nowMs);
    return this.#ended(id, pair, answer, nowMs);
  }

  requestFailed(id: number, nowMs: number): KeyOutput[] {
    const pair = this.#outbox.pairOf(id);
    return pair === undefined ? [] : this.#ended(id, pair, undefined, nowMs);
  }

  /** The kernel has carried out a step. */
  done(id: number, nowMs: number): KeyOutput[] {
    return this.#stepped(id, true, nowMs);
  }

  /** It refused, or it is not known what became of it. */
  failed(id: number, nowMs: number): KeyOutput[] {
    this.counters.kernelFailures++;
    return this.#stepped(id, false, nowMs);
  }

  /** New keys in both directions, of one peer or of all; the old ones are in use until then. */
  rotate(node: NodeId | undefined, nowMs: number): KeyOutput[] {
    for (const peer of this.#peers.values())
      if (node === undefined || peer.node === node) this.#newSession(peer, nowMs);
    return this.#settle(nowMs);
  }

  /** Call at `nextMs()` or later; often does no harm. */
  tick(nowMs: number): KeyOutput[] {
    for (const pair of this.#outbox.expire(nowMs)) this.#advanceOf(pair, nowMs);
    for (const [node, { untilMs }] of this.#former) if (untilMs <= nowMs) this.#forgetFormer(node);
    for (const peer of this.#peers.values())
      if (peer.nextMs <= nowMs || peer.askAtMs <= nowMs) this.#advance(peer, nowMs);
    return this.#outbox.drain();
  }

  /** When `tick` has something to do next; Infinity: only after another input. */
  nextMs(): number {
    let next = this.#outbox.nextDeadlineMs();
    const mayAsk = this.#outbox.mayAsk();
    for (const { nextMs, askAtMs } of this.#peers.values()) {
      if (nextMs < next) next = nextMs;
      if (mayAsk && askAtMs < next) next = askAtMs;
    }
    for (const { untilMs } of this.#former.values()) if (untilMs < next) next = untilMs;
    return next;
  }

  /** What the kernel has of an earlier process was read: before, nobody seems ready. */
  isAdopted(): boolean {
    return this.#adopted;
  }

  /** Both directions are there: no key, no path. */
  ready(node: NodeId): boolean {
    return this.vtepOf(node) !== undefined;
  }

  /** Where its packets go; its former VTEP until both directions with the new one are there. */
  vtepOf(node: NodeId): Ip | undefined {
    const former = this.#former.get(node)?.peer;
    const peers = [this.#peers.get(node), former];
    return peers.find((peer) => peer?.ready === true)?.vtep;
  }

  status(): PeerStatus[] {
    return [...this.#peers.values()].map(({ node, vtep, ready, sending, receiving }) => ({
      node,
      vtep,
      ready,
      sending: sending.status(),
      inbound: receiving.count(),
      failure: sending.failure(),
    }));
  }

  #remember(node: NodeId, vtep: Ip, found: readonly HeldSa[], nowMs: number): void {
    const spis = (source: Ip, destination: Ip): number[] =>
      found
        .filter((sa) => sa.source === source && sa.destination === destination)
        .map(({ spi }) => spi);
    const pair: Pair = { node, vtep, session: this.#newBytes(), heard: undefined };
    const sending = new Sending(pair, this.#actions, spis(this.#local, vtep), nowMs);
    const receiving = new Receiving(pair, this.#actions, spis(vtep, this.#local));
    this.#peers.set(node, Object.assign(pair, { sending, receiving, ...NEW_PEER }));
  }

  #forget(peer: Peer): void {
    this.#peers.delete(peer.node);
    this.#outbox.forgetAll(peer);
    this.#removeAll(peer);
    if (peer.ready) this.#outbox.path(peer.node, false);
  }

  #removeAll({ sending, receiving }: Peer): void {
    const inbound = receiving.names();
    this.#outbox.remove(undefined, [...sending.names(), ...inbound], () => {
      for (const { spi } of inbound) this.#spis.delete(spi);
    });
  }

  /** The peer learns of it by our question, and asks anew in its turn. */
  #newSession(peer: Peer, nowMs: number): void {
    peer.session = this.#newBytes();
    peer.receiving.newSession();
    peer.sending.renew(nowMs);
  }

  #hear(peer: Peer, session: Uint8Array, nowMs: number): void {
    if (peer.heard !== undefined && equalBytes(peer.heard, session)) return;
    peer.heard = session;
    peer.sending.heard(nowMs);
  }

  #byPeer(sas: readonly HeldSa[]): [Map<Ip, HeldSa[]>, Map<Ip, HeldSa[]>, HeldSa[]] {
    const outbound = new Map<Ip, HeldSa[]>();
    const inbound = new Map<Ip, HeldSa[]>();
    for (const { vtep } of this.#all()) {
      outbound.set(vtep, []);
      inbound.set(vtep, []);
    }
    const strays = sas.filter((sa) => {
      const list =
        sa.source === this.#local
          ? outbound.get(sa.destination)
          : sa.destination === this.#local
            ? inbound.get(sa.source)
            : undefined;
      list?.push(sa);
      return list === undefined;
    });
    return [outbound, inbound, strays];
  }

  #ended(id: number, pair: Pair, answer: KeyAnswer | undefined, nowMs: number): KeyOutput[] {
    this.#outbox.end(id, answer, nowMs);
    return this.#settled(pair, nowMs);
  }

  #stepped(id: number, ok: boolean, nowMs: number): KeyOutput[] {
    const pair = this.#outbox.stepped(id, ok, nowMs);
    return pair === undefined ? this.#outbox.drain() : this.#settled(pair, nowMs);
  }

  #settle(nowMs: number): KeyOutput[] {
    for (const peer of this.#peers.values()) this.#advance(peer, nowMs);
    return this.#outbox.drain();
  }

  /** Of one that is no longer wanted nothing is left to be done. */
  #settled(pair: Pair, nowMs: number): KeyOutput[] {
    this.#advanceOf(pair, nowMs);
    return this.#outbox.drain();
  }

  #advanceOf(pair: Pair, nowMs: number): void {
    const peer = this.#peers.get(pair.node);
    if (peer === pair) this.#advance(peer, nowMs);
  }

  #advance(peer: Peer, nowMs: number): void {
    peer.sending.advance(nowMs, this.#outbox.mayAsk());
    peer.receiving.advance(nowMs);
    peer.askAtMs = peer.sending.askAtMs();
    peer.nextMs = Math.min(peer.sending.nextMs(), peer.receiving.nextMs());
    const ready = peer.sending.ready() && peer.receiving.ready();
    if (ready === peer.ready) return;
    peer.ready = ready;
    this.#outbox.path(peer.node, ready);
  }

  #takeSpi(): number {
    for (;;) {
      const bytes = this.#random.bytes(4);
      const spi = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
      if (spi < 256 || this.#spis.has(spi)) continue;
      this.#spis.add(spi);
      return spi;
    }
  }

  #decode<T>(decode: () => T): T | undefined {
    try {
      return decode();
    } catch (error) {
      if (!(error instanceof OverlayError)) throw error;
      this.counters.malformed++;
      return undefined;
    }
  }

  #newBytes(): Uint8Array {
    return this.#random.bytes(SESSION_BYTES);
  }
}
