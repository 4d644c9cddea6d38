/**
 * Whether a thread comes round, told from outside: the time its event loop was idle grows, or it
 * answers what it is asked. Pure; costs an idle thread nothing.
 */
export class HangWatch {
  readonly #limitMs: number;
  readonly #everyMs: number;
  #idleMs = -1;
  #delayedMs = 0;
  #aliveMs: number;
  #lookedMs: number;

  /** @param everyMs how often `look` is to be called. */
  constructor(limitMs: number, everyMs: number, nowMs: number) {
    this.#limitMs = limitMs;
    this.#everyMs = everyMs;
    this.#aliveMs = this.#lookedMs = nowMs;
  }

  /** When it was last known to come round. */
  get aliveMs(): number {
    return this.#aliveMs;
  }

  /**
   * @param idleMs so far, of the thread's event loop.
   * @param delayedMs so far, that the thread could have run and had no processor.
   * @returns `silent`: busy, or hung for less than the limit; to be asked.
   */
  look(idleMs: number, delayedMs: number, nowMs: number): "well" | "silent" | "hung" {
    const sinceMs = nowMs - this.#lookedMs;
    this.#lookedMs = nowMs;
    // Nobody looked, nor read its answers, while our own thread was late.
    if (sinceMs > 2 * this.#everyMs) this.#aliveMs += sinceMs - this.#everyMs;
    // On an overloaded machine it is slow, as everything is; Docker would only say what is not so.
    this.#aliveMs = Math.min(nowMs, this.#aliveMs + delayedMs - this.#delayedMs);
    this.#delayedMs = delayedMs;
    if (idleMs > this.#idleMs) {
      this.#idleMs = idleMs;
      this.#aliveMs = nowMs;
      return "well";
    }
    return nowMs - this.#aliveMs > this.#limitMs ? "hung" : "silent";
  }

  answered(nowMs: number): void {
    this.#aliveMs = nowMs;
  }
}
