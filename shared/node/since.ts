import type { Clock } from "../ports.ts";
import { systemClock } from "./system.ts";

/** Since when things are missing, or otherwise not as they should be: only what stays so is acted on. */
export class Since<K> {
  readonly #limitMs: number;
  readonly #clock: Pick<Clock, "nowMs">;
  #ms: ReadonlyMap<K, number> = new Map<K, number>();

  constructor(limitMs: number, clock: Pick<Clock, "nowMs"> = systemClock) {
    this.#limitMs = limitMs;
    this.#clock = clock;
  }

  /** Of what is missing now, what has been missing each time for so long that it will not come. */
  over(missing: readonly K[]): K[] {
    const now = this.#clock.nowMs();
    const since = (key: K): number => this.#ms.get(key) ?? now;
    const isOver = (key: K): boolean => now - since(key) >= this.#limitMs;
    const over = missing.filter(isOver);
    this.#ms = new Map(missing.filter((key) => !isOver(key)).map((key) => [key, since(key)]));
    return over;
  }

  /** When the next look can be worth it; negative: it is late; infinite: nothing is missing. */
  dueInMs(): number {
    return Math.min(...this.#ms.values()) + this.#limitMs - this.#clock.nowMs();
  }
}
