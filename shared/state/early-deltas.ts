import type { StateDelta } from "./delta.ts";
import { deltaBytes } from "./delta.ts";
import type { StateHead, StatePoint } from "./head.ts";

export interface EarlyDelta {
  readonly head: StateHead;
  readonly delta: StateDelta;
}

/** Gossip hands on in any order: what came before its base waits here, within bounds, and nothing of it shows. */
export const EARLY_LIMITS = { count: 64, bytes: 1024 * 1024 } as const;

/** By the base that each needs. What is above the bounds goes, the oldest first: who has a gap asks for it anyway. */
export class EarlyDeltas {
  readonly #limits: { readonly count: number; readonly bytes: number };
  /** In the order of arrival. */
  readonly #waiting = new Map<string, EarlyDelta & { readonly size: number }>();
  #bytes = 0;

  constructor(limits = EARLY_LIMITS as { readonly count: number; readonly bytes: number }) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** Only of those whose head was checked, and whose delta is the head's. */
  keep(early: EarlyDelta): void {
    const { base } = early.head;
    if (base === undefined) return;
    this.#drop(pointKey(base));
    const size = deltaBytes(early.delta).length;
    this.#waiting.set(pointKey(base), { ...early, size });
    this.#bytes += size;
    for (const key of this.#waiting.keys()) {
      if (this.#waiting.size <= this.#limits.count && this.#bytes <= this.#limits.bytes) break;
      this.#drop(key);
    }
  }

  /** What starts from `held`, once; undefined: nothing. What ended before it is forgotten. */
  next(held: StatePoint): EarlyDelta | undefined {
    for (const [key, { head }] of this.#waiting)
      if (head.revision <= held.revision) this.#drop(key);
    const found = this.#waiting.get(pointKey(held));
    this.#drop(pointKey(held));
    return found;
  }

  #drop(key: string): void {
    this.#bytes -= this.#waiting.get(key)?.size ?? 0;
    this.#waiting.delete(key);
  }
}

function pointKey({ revision, root }: StatePoint): string {
  return `${revision} ${root}`;
}
