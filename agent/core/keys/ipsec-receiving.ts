import { equalBytes } from "../../../shared/codec.ts";
import { type KeyAnswer, type KeyRequest, MAX_INBOUND, type Refusal } from "./ipsec-messages.ts";
import type { Pair, PairActions } from "./ipsec-pair.ts";
import { PAIR_KEY_BYTES, PairKey } from "./pair-key.ts";
import type { HeldSa, SaName } from "./security-association.ts";

interface Inbound {
  readonly spi: number;
  /** As which of this session it was made; 0: before it. */
  made: number;
  state: "installing" | "held" | "removing";
  /** When it goes: the sender has it no longer. Infinity: it may have it. */
  dropAtMs: number;
  pending: boolean;
}

type Ask = Extract<KeyRequest, { kind: "ask" }>;
type Using = Extract<KeyRequest, { kind: "using" }>;

/**
 * The half that receives: picks SPI and key, and hands them over after the kernel has them. Nothing goes
 * because time has passed alone: only what the sender said it neither holds nor waits for.
 */
export class Receiving {
  readonly #pair: Pair;
  readonly #actions: PairActions;
  readonly #inbound = new Map<number, Inbound>();
  #made = 0;
  #lastAsk: { session: Uint8Array; n: number } | undefined;

  constructor(pair: Pair, actions: PairActions, adopted: readonly number[]) {
    this.#pair = pair;
    this.#actions = actions;
    for (const spi of adopted) this.#note(spi, "held");
  }

  ready(): boolean {
    return this.count() > 0;
  }

  count(): number {
    return [...this.#inbound.values()].filter(({ state }) => state === "held").length;
  }

  names(): SaName[] {
    return [...this.#inbound.keys()].map((spi) => this.#name(spi));
  }

  ask(request: Ask, answer: (answer: KeyAnswer) => void): void {
    const { session, n } = request;
    const last = this.#lastAsk;
    if (last !== undefined && equalBytes(last.session, session) && n <= last.n)
      return answer(this.#refused("old"));
    this.#lastAsk = { session, n };
    if (this.#inbound.size >= MAX_INBOUND) return answer(this.#refused("full"));
    const spi = this.#actions.takeSpi();
    const key = new PairKey(this.#actions.random.bytes(PAIR_KEY_BYTES));
    const inbound = this.#note(spi, "installing", ++this.#made);
    inbound.pending = true;
    this.#actions.put(this.#pair, this.#name(spi), key, (ok) => {
      inbound.pending = false;
      if (!ok) {
        // It may be there all the same.
        this.#remove([inbound]);
        return answer(this.#refused("kernel"));
      }
      inbound.state = "held";
      this.#actions.count("given");
      answer({ ...this.#head("key"), asked: { session, n }, spi, key: key.reveal() });
    });
  }

  using(request: Using, nowMs: number): KeyAnswer {
    if (!equalBytes(request.of, this.#pair.session)) return this.#head("stale");
    const held = new Set(request.spis);
    const dropAtMs = nowMs + this.#actions.options().inboundGraceMs;
    for (const inbound of this.#inbound.values())
      if (inbound.made <= request.made && !held.has(inbound.spi))
        inbound.dropAtMs = Math.min(inbound.dropAtMs, dropAtMs);
    return this.#head("noted");
  }

  /** What the kernel has of this half; true when the peer has to be told that something is lost. */
  held(sas: readonly HeldSa[]): boolean {
    const found = new Set(sas.map(({ spi }) => spi));
    let lost = false;
    for (const inbound of this.#inbound.values())
      if (found.delete(inbound.spi)) {
        if (inbound.state === "removing" && !inbound.pending) this.#remove([inbound]);
      } else if (!inbound.pending) {
        this.#drop(inbound);
        if (inbound.state === "removing") continue;
        this.#actions.count("lost");
        lost ||= inbound.dropAtMs === Infinity;
      }
    for (const spi of found) {
      this.#actions.count("strays");
      this.#remove([this.#note(spi, "held")]);
    }
    return lost;
  }

  /** The session is another: what was made until now is of before it. */
  newSession(): void {
    for (const inbound of this.#inbound.values()) inbound.made = 0;
    this.#made = 0;
  }

  advance(nowMs: number): void {
    this.#remove(
      [...this.#inbound.values()].filter(
        ({ state, dropAtMs }) => state === "held" && dropAtMs <= nowMs,
      ),
    );
  }

  nextMs(): number {
    let next = Infinity;
    for (const { state, dropAtMs } of this.#inbound.values())
      if (state === "held" && dropAtMs < next) next = dropAtMs;
    return next;
  }

  #remove(old: readonly Inbound[]): void {
    if (old.length === 0) return;
    for (const inbound of old) {
      inbound.state = "removing";
      inbound.pending = true;
    }
    this.#actions.remove(
      this.#pair,
      old.map(({ spi }) => this.#name(spi)),
      (ok) => {
        for (const inbound of old) {
          inbound.pending = false;
          if (ok) this.#drop(inbound);
        }
      },
    );
  }

  #drop({ spi }: Inbound): void {
    if (this.#inbound.delete(spi)) this.#actions.freeSpi(spi);
  }

  #note(spi: number, state: "installing" | "held", made = 0): Inbound {
    const inbound: Inbound = { spi, made, state, dropAtMs: Infinity, pending: false };
    this.#inbound.set(spi, inbound);
    return inbound;
  }

  #refused(reason: Refusal): KeyAnswer {
    this.#actions.count("refusedToPeer");
    return { ...this.#head("refused"), reason };
  }

  #head<K extends KeyAnswer["kind"]>(kind: K) {
    return { v: 1, kind, session: this.#pair.session, made: this.#made } as const;
  }

  #name(spi: number): SaName {
    return { source: this.#pair.vtep, destination: this.#actions.local, spi };
  }
}
