import { equalBytes } from "../../../shared/codec.ts";
import type { KeyAnswer, Refusal } from "./ipsec-messages.ts";
import { backoffMs, jittered } from "./ipsec-options.ts";
import type { Pair, PairActions } from "./ipsec-pair.ts";
import { PairKey } from "./pair-key.ts";
import type { HeldSa, SaName } from "./security-association.ts";

/** Why there is no newer key; the peer's own words, or what became of the question. */
export type AskFailure = Refusal | "no-answer" | "malformed" | "own-kernel";

interface Outbound {
  readonly spi: number;
  state: "installing" | "held" | "removing";
  sinceMs: number;
  /** The peer's when it gave the key; undefined: of an earlier process of ours. */
  readonly session: Uint8Array | undefined;
  readonly packetLimit: number;
  readonly byteLimit: number;
  packets: number;
  bytes: number;
  /** A kernel step is on its way. */
  pending: boolean;
}

export interface SendingStatus {
  readonly spi: number;
  readonly sinceMs: number;
  readonly packets: number;
  readonly bytes: number;
}

/**
 * The half that sends: asks the peer for keys, installs them, retires their predecessors, and reports
 * which are left, so that the peer can retire its halves. A key is taken only as the answer to a question
 * that still waits: none is ever installed twice, whatever is late, doubled, or meant for an earlier
 * process. The predecessor goes after its successor is there.
 */
export class Sending {
  readonly #pair: Pair;
  readonly #actions: PairActions;
  /** Oldest first. */
  readonly #outbound: Outbound[] = [];
  #n = 0;
  #asking = false;
  #askAtMs: number;
  #lastAskMs = -Infinity;
  #failures = 0;
  #failure: AskFailure | undefined;
  #reporting = false;
  #reportAtMs = Infinity;
  #reportFailures = 0;
  #peerMade: { session: Uint8Array; made: number } | undefined;

  /** `adopted`: of an earlier process, in use until their successor is there. */
  constructor(pair: Pair, actions: PairActions, adopted: readonly number[], nowMs: number) {
    this.#pair = pair;
    this.#actions = actions;
    for (const spi of adopted) this.#outbound.push(this.#adopt(spi, "held", nowMs));
    const spread = actions.options().adoptedMs;
    this.#askAtMs = adopted.length === 0 ? nowMs : nowMs + actions.random.below(spread + 1);
  }

  ready(): boolean {
    return this.#newest() !== undefined;
  }

  failure(): AskFailure | undefined {
    return this.#failure;
  }

  status(): SendingStatus | undefined {
    return this.#newest();
  }

  names(): SaName[] {
    return this.#outbound.map(({ spi }) => this.#name(spi));
  }

  /** A new key as soon as may be: by hand, or because something was lost. */
  renew(nowMs: number): void {
    this.#failures = 0;
    this.#askAtMs = Math.min(this.#askAtMs, this.#soon(nowMs));
  }

  /** The peer has said its session: what it gave in another one it may have lost. */
  heard(nowMs: number): void {
    const newest = this.#newest();
    if (newest !== undefined && !this.#isOfNow(newest)) this.renew(nowMs);
  }

  /** What the kernel has of this half. */
  held(sas: readonly HeldSa[], nowMs: number): void {
    const found = new Map(sas.map((sa) => [sa.spi, sa]));
    for (const out of this.#outbound.slice()) {
      const sa = found.get(out.spi);
      found.delete(out.spi);
      if (sa !== undefined) {
        out.packets = sa.packets;
        out.bytes = sa.bytes;
        if (out.state === "removing" && !out.pending) this.#remove([out]);
      } else if (!out.pending) {
        this.#drop(out);
        if (out.state === "removing") continue;
        this.#actions.count("lost");
        this.renew(nowMs);
      }
    }
    for (const spi of found.keys()) {
      this.#actions.count("strays");
      const stray = this.#adopt(spi, "removing", nowMs);
      this.#outbound.unshift(stray);
      this.#remove([stray]);
    }
    const newest = this.#newest();
    if (newest === undefined || this.#asking || this.#failures > 0) return;
    if (newest.packets >= newest.packetLimit || newest.bytes >= newest.byteLimit) this.renew(nowMs);
  }

  /** `mayAsk`: fewer peers than the bound are asked at this moment. */
  advance(nowMs: number, mayAsk: boolean): void {
    const newest = this.#newest();
    if (newest !== undefined && nowMs >= this.#retireAtMs(newest))
      this.#remove(this.#outbound.filter((out) => out !== newest && out.state === "held"));
    if (!this.#asking && mayAsk && nowMs >= this.#askAtMs) this.#ask(nowMs);
    if (this.#mayReport() && nowMs >= this.#reportAtMs) this.#report(nowMs);
  }

  /** When it would ask next; Infinity: it waits for an answer. */
  askAtMs(): number {
    return this.#asking ? Infinity : this.#askAtMs;
  }

  /** When there is something else to do. */
  nextMs(): number {
    const newest = this.#newest();
    const old = this.#outbound.some((out) => out !== newest && out.state === "held");
    return Math.min(
      newest !== undefined && old ? this.#retireAtMs(newest) : Infinity,
      this.#mayReport() ? this.#reportAtMs : Infinity,
    );
  }

  #ask(nowMs: number): void {
    this.#asking = true;
    this.#lastAskMs = nowMs;
    const asked = { session: this.#pair.session, n: ++this.#n };
    const request = { v: 1, kind: "ask", ...asked } as const;
    this.#actions.request(this.#pair, request, nowMs, (answer, answeredMs) =>
      this.#answered(asked, answer, answeredMs),
    );
  }

  #answered(
    asked: { session: Uint8Array; n: number },
    answer: KeyAnswer | undefined,
    nowMs: number,
  ): void {
    if (answer === undefined) {
      this.#actions.count("unanswered");
      return this.#failed("no-answer", nowMs);
    }
    this.#peerMade = { session: answer.session, made: answer.made };
    if (answer.kind === "refused") {
      this.#actions.count("refusedByPeer");
      // It has too many that it cannot know to be unused.
      if (answer.reason === "full") this.#reportAtMs = nowMs;
      return this.#failed(answer.reason, nowMs);
    }
    const isOurs =
      answer.kind === "key" &&
      answer.asked.n === asked.n &&
      equalBytes(answer.asked.session, asked.session) &&
      this.#outbound.every(({ spi }) => spi !== answer.spi);
    if (!isOurs) {
      this.#actions.count("malformed");
      return this.#failed("malformed", nowMs);
    }
    this.#install(answer.spi, answer.session, new PairKey(answer.key));
  }

  #install(spi: number, session: Uint8Array, key: PairKey): void {
    const { random } = this.#actions;
    const options = this.#actions.options();
    const out: Outbound = {
      spi,
      session,
      state: "installing",
      sinceMs: 0,
      packetLimit: jittered(options.rekeyPackets, options.jitter, random),
      byteLimit: jittered(options.rekeyBytes, options.jitter, random),
      packets: 0,
      bytes: 0,
      pending: true,
    };
    this.#outbound.push(out);
    this.#actions.put(this.#pair, this.#name(spi), key, (ok, nowMs) => {
      out.pending = false;
      if (!ok) {
        // It may be there all the same.
        this.#remove([out]);
        return this.#failed("own-kernel", nowMs);
      }
      out.state = "held";
      out.sinceMs = nowMs;
      this.#asking = false;
      this.#failures = 0;
      this.#failure = undefined;
      this.#askAtMs = this.#isOfNow(out)
        ? nowMs + jittered(options.rekeyMs, options.jitter, random)
        : this.#soon(nowMs);
      this.#reportAtMs = nowMs;
      this.#actions.count("installed");
    });
  }

  #failed(why: AskFailure, nowMs: number): void {
    this.#asking = false;
    this.#failure = why;
    const { random } = this.#actions;
    const options = this.#actions.options();
    this.#askAtMs = nowMs + backoffMs(options, ++this.#failures, random);
  }

  /** Only of a quiet moment: what it says is then true for ever. */
  #mayReport(): boolean {
    return (
      !this.#asking &&
      !this.#reporting &&
      this.#peerMade !== undefined &&
      this.#outbound.length <= 1 &&
      this.#outbound.every(({ state }) => state === "held")
    );
  }

  #report(nowMs: number): void {
    const { session, made } = this.#peerMade!;
    const spis = this.#outbound.map(({ spi }) => spi);
    this.#reporting = true;
    this.#reportAtMs = Infinity;
    this.#actions.request(
      this.#pair,
      { v: 1, kind: "using", session: this.#pair.session, of: session, made, spis },
      nowMs,
      (answer, nowMs) => {
        this.#reporting = false;
        if (answer !== undefined) this.#peerMade = { session: answer.session, made: answer.made };
        if (answer?.kind === "noted") {
          this.#reportFailures = 0;
          this.#actions.count("reported");
          return;
        }
        const { random } = this.#actions;
        const options = this.#actions.options();
        const wait = backoffMs(options, ++this.#reportFailures, random);
        // Another session of it: the same once more, of what it has made in this one.
        const stale = answer?.kind === "stale" && this.#reportFailures === 1;
        this.#reportAtMs = Math.min(this.#reportAtMs, stale ? nowMs : nowMs + wait);
      },
    );
  }

  #remove(old: readonly Outbound[]): void {
    if (old.length === 0) return;
    for (const out of old) {
      out.state = "removing";
      out.pending = true;
    }
    this.#actions.remove(
      this.#pair,
      old.map(({ spi }) => this.#name(spi)),
      (ok, nowMs) => {
        for (const out of old) {
          out.pending = false;
          if (ok) this.#drop(out);
        }
        // What is left is told; a failure is tried again when the kernel has been read.
        this.#reportAtMs = Math.min(this.#reportAtMs, nowMs);
      },
    );
  }

  #drop(out: Outbound): void {
    const at = this.#outbound.indexOf(out);
    if (at >= 0) this.#outbound.splice(at, 1);
  }

  /** The kernel sends with the one that came last (xfrm_state_look_at of net/xfrm/xfrm_state.c). */
  #newest(): Outbound | undefined {
    return this.#outbound.findLast(({ state }) => state === "held");
  }

  #retireAtMs(newest: Outbound): number {
    return newest.sinceMs + this.#actions.options().outboundGraceMs;
  }

  #isOfNow({ session }: Outbound): boolean {
    const { heard } = this.#pair;
    return session !== undefined && heard !== undefined && equalBytes(session, heard);
  }

  /** Whatever a peer says, it is not asked in a tight loop. */
  #soon(nowMs: number): number {
    return Math.max(nowMs, this.#lastAskMs + this.#actions.options().retryMs);
  }

  #name(spi: number): SaName {
    return { source: this.#actions.local, destination: this.#pair.vtep, spi };
  }

  #adopt(spi: number, state: "held" | "removing", nowMs: number): Outbound {
    const limits = { packetLimit: Infinity, byteLimit: Infinity, packets: 0, bytes: 0 };
    return { spi, state, sinceMs: nowMs, session: undefined, ...limits, pending: false };
  }
}
