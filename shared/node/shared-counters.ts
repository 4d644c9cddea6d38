/** Counts in memory that two threads see: they outlive a worker. One writer a counter. */
export class SharedCounters<Name extends string> {
  readonly memory: SharedArrayBuffer;
  readonly #places: ReadonlyMap<Name, number>;
  readonly #values: Float64Array;

  /** @param memory of the same names in the same order; undefined: new */
  constructor(names: readonly Name[], memory = new SharedArrayBuffer(names.length * 8)) {
    this.memory = memory;
    this.#places = new Map(names.map((name, place) => [name, place]));
    this.#values = new Float64Array(memory);
  }

  count(name: Name, by = 1): void {
    const place = this.#places.get(name)!;
    this.#values[place] = this.#values[place]! + by;
  }

  read(): Record<Name, number> {
    const entries = [...this.#places].map(([name, place]) => [name, this.#values[place]]);
    return Object.fromEntries(entries) as Record<Name, number>;
  }
}
