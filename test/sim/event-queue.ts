export interface Event {
  readonly atMs: number;
  /** Of two events at one moment the earlier made comes first. */
  readonly order: number;
  /** Undefined: it was cancelled. */
  run: (() => void) | undefined;
}

/**
 * Virtual time: what is to happen, in order. What one event's promises lead to has all happened before the next.
 * A binary heap, since a large cluster has 100,000 at once.
 */
export class EventQueue {
  readonly #heap: Event[] = [];
  #order = 0;
  #nowMs = 0;
  /** Events that have run. */
  count = 0;

  get nowMs(): number {
    return this.#nowMs;
  }

  at(atMs: number, run: () => void): Event {
    const heap = this.#heap;
    const event: Event = { atMs: Math.max(atMs, this.#nowMs), order: this.#order++, run };
    let i = heap.length;
    heap.push(event);
    while (i > 0) {
      const parent = (i - 1) >>> 1;
      const other = heap[parent]!;
      if (!before(event, other)) break;
      heap[i] = other;
      i = parent;
    }
    heap[i] = event;
    return event;
  }

  after(ms: number, run: () => void): Event {
    return this.at(this.#nowMs + ms, run);
  }

  cancel(event: Event): void {
    event.run = undefined;
  }

  async runUntil(endMs: number): Promise<void> {
    for (let next = this.#heap[0]; next !== undefined && next.atMs <= endMs; next = this.#heap[0]) {
      this.#pop();
      if (next.run === undefined) continue;
      this.#nowMs = next.atMs;
      this.count++;
      next.run();
      // Promises have no end that could be asked for; the next turn of Node's own loop comes after it.
      await new Promise(setImmediate);
    }
    this.#nowMs = endMs;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    const size = heap.length;
    if (last === undefined || size === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= size) break;
      if (child + 1 < size && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}

function before(a: Event, b: Event): boolean {
  return a.atMs === b.atMs ? a.order < b.order : a.atMs < b.atMs;
}
