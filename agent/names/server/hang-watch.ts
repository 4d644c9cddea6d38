/** From one look to the next. */
export interface LookTimes {
  /** At a thread that was idle since the last. */
  readonly wellMs: number;
  /** At one that is hung; before, the next look is when its time is over. */
  readonly hungMs: number;
}

/**
 * Whether a thread comes round, told from outside: the time its event loop was idle grows, or it
 * answers what it is asked. Pure; costs an idle thread nothing.
 */
export class HangWatch {
  readonly #limitMs: number;
  readonly #times: LookTimes;
  #idleMs = -1;
  #delayedMs = 0;
  #aliveMs: number;
  #lookedMs: number;
  #pauseMs: number;

  constructor(limitMs: number, times: LookTimes, nowMs: number) {
    this.#limitMs = limitMs;
    this.#times = times;
    this.#pauseMs = times.wellMs;
    this.#aliveMs = this.#lookedMs = nowMs;
  }

  /** When `look` is to be called next, from the last time on. */
  get pauseMs(): number {
    return this.#pauseMs;
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
    if (sinceMs > this.#pauseMs + this.#times.hungMs) this.#aliveMs += sinceMs - this.#pauseMs;
    // On an overloaded machine it is slow, as everything is; Docker would only say what is not so.
    this.#aliveMs = Math.min(nowMs, this.#aliveMs + delayedMs - this.#delayedMs);
    this.#delayedMs = delayedMs;
    if (idleMs > this.#idleMs) {
      this.#idleMs = idleMs;
      this.#aliveMs = nowMs;
      this.#pauseMs = this.#times.wellMs;
      return "well";
    }
    const leftMs = this.#limitMs - (nowMs - this.#aliveMs);
    this.#pauseMs = leftMs < 0 ? this.#times.hungMs : leftMs + 1;
    return leftMs < 0 ? "hung" : "silent";
  }

  answered(nowMs: number): void {
    this.#aliveMs = nowMs;
  }
}
