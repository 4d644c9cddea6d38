import type { NetworkId } from "../../../shared/ids.ts";

/** As long as a peer's first exchange takes; well within a resolver's own patience (5 s). */
export const HOLD_MS = 1500;
const HELD = 2000;
const HELD_PER_ASKER = 100;

/** A question about a name that is not known yet. */
export interface HeldQuestion {
  readonly asker: object;
  readonly networks: () => readonly NetworkId[];
  /** @param last it must be decided now. @returns whether it was. */
  readonly decide: (last: boolean) => boolean;
}

/** Questions that wait until a network is known in full; the oldest first. */
export class HeldQuestions {
  readonly #holdMs: number;
  readonly #held = new Map<HeldQuestion, number>();
  readonly #perAsker = new Map<object, number>();
  /** One timer, for the oldest. */
  #timing = false;

  constructor(holdMs: number) {
    this.#holdMs = holdMs;
  }

  /** @returns false: too many wait, this one must be decided now. */
  hold(question: HeldQuestion): boolean {
    const own = this.#perAsker.get(question.asker) ?? 0;
    if (this.#held.size >= HELD || own >= HELD_PER_ASKER) return false;
    this.#perAsker.set(question.asker, own + 1);
    this.#held.set(question, performance.now() + this.#holdMs);
    if (!this.#timing) this.#expireIn(this.#holdMs);
    return true;
  }

  changed(networks: ReadonlySet<NetworkId>): void {
    for (const question of this.#held.keys())
      if (question.networks().some((network) => networks.has(network)) && question.decide(false))
        this.#remove(question);
  }

  /** All of an asker, or all. */
  decideNow(asker?: object): void {
    for (const question of this.#held.keys())
      if (asker === undefined || question.asker === asker) this.#decide(question);
  }

  #expireIn(ms: number): void {
    this.#timing = true;
    setTimeout(() => this.#expire(), ms);
  }

  #expire(): void {
    const nowMs = performance.now();
    this.#timing = false;
    for (const [question, untilMs] of this.#held) {
      if (untilMs > nowMs) {
        this.#expireIn(untilMs - nowMs);
        return;
      }
      this.#decide(question);
    }
  }

  #decide(question: HeldQuestion): void {
    this.#remove(question);
    question.decide(true);
  }

  #remove(question: HeldQuestion): void {
    this.#held.delete(question);
    const left = (this.#perAsker.get(question.asker) ?? 1) - 1;
    if (left === 0) this.#perAsker.delete(question.asker);
    else this.#perAsker.set(question.asker, left);
  }
}
