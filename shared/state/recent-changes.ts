import { compareHeads, type StateHead, type StatePoint } from "./head.ts";

/** What a memory, an answer and a disk hold; who has missed more is told all objects that differ. */
export const MOST_CHANGES = 128;
export const MOST_BYTES = 2 * 1024 * 1024;

/** The newest changes without a gap, for who holds a state that one of them starts from. A value. */
export class RecentChanges<T extends { readonly head: StateHead }> {
  readonly #changes: readonly T[];
  readonly #bytes: (change: T) => number;

  constructor(bytes: (change: T) => number, changes: readonly T[] = []) {
    this.#bytes = bytes;
    this.#changes = changes;
  }

  get size(): number {
    return this.#changes.length;
  }

  /** The oldest go when there are too many; what does not lead to `next` is no use. */
  and(next: T): RecentChanges<T> {
    const last = this.#changes.at(-1)?.head;
    const { base } = next.head;
    const leads = last !== undefined && base !== undefined && compareHeads(last, base) === 0;
    const all = leads ? [...this.#changes, next] : [next];
    let bytes = 0;
    const over = all.findLastIndex((change) => (bytes += this.#bytes(change)) > MOST_BYTES);
    return new RecentChanges(this.#bytes, all.slice(Math.max(over + 1, all.length - MOST_CHANGES)));
  }

  /**
   * What leads from there to the newest; undefined: that is not known, or not any more. Without its revision from the first that
   * had this root: what was given and returned leads to the root of before.
   */
  since({ root, revision }: Partial<StatePoint>): readonly T[] | undefined {
    const from = this.#changes.findIndex(
      ({ head: { base } }) =>
        base !== undefined && base.root === root && (revision ?? base.revision) === base.revision,
    );
    return from < 0 ? undefined : this.#changes.slice(from);
  }
}
