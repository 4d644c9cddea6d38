import type { StateHead, StatePoint } from "./head.ts";

/** Gossip hands on in any order: what came before its base waits here, within bounds, and nothing of it shows. */
export const EARLY_LIMITS = { count: 64, bytes: 1024 * 1024 } as const;

/** By the base that each needs. What is above the bounds goes, the oldest first: who has a gap asks for it anyway. */
export class EarlyChanges<T extends { readonly head: StateHead }> {
  readonly #limits: { readonly count: number; readonly bytes: number };
  /** In the order of arrival. */
  readonly #waiting = new Map<string, { readonly early: T; readonly size: number }>();
  #bytes = 0;

  constructor(limits = EARLY_LIMITS as { readonly count: number; readonly bytes: number }) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** Only of those whose head was checked, and whose changes are the head's. */
  keep(early: T, size: number): void {
    const { base } = early.head;
    if (base === undefined) return;
    this.#drop(pointKey(base));
    this.#waiting.set(pointKey(base), { early, size });
    this.#bytes += size;
    for (const key of this.#waiting.keys()) {
      if (this.#waiting.size <= this.#limits.count && this.#bytes <= this.#limits.bytes) break;
      this.#drop(key);
    }
  }

  /** What starts from `held`, once; undefined: nothing. What ended before it is forgotten. */
  next(held: StatePoint): T | undefined {
    for (const [key, { early }] of this.#waiting)
      if (early.head.revision <= held.revision) this.#drop(key);
    const found = this.#waiting.get(pointKey(held));
    this.#drop(pointKey(held));
    return found?.early;
  }

  #drop(key: string): void {
    this.#bytes -= this.#waiting.get(key)?.size ?? 0;
    this.#waiting.delete(key);
  }
}

function pointKey({ revision, root }: StatePoint): string {
  return `${revision} ${root}`;
}
