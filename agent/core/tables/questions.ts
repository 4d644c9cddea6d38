/** Questions to peers that are under way: each ends with its answer, its failure, or the time limit of all. */
export class Questions<T extends object> {
  readonly #timeoutMs: number;
  readonly #asked = new Map<number, { readonly question: T; readonly deadlineMs: number }>();
  #last = 0;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** @returns by what its answer is known */
  ask(question: T, nowMs: number): number {
    const id = ++this.#last;
    this.#asked.set(id, { question, deadlineMs: nowMs + this.#timeoutMs });
    return id;
  }

  /** It is over. Undefined: it was before. */
  end(id: number): T | undefined {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    return asked?.question;
  }

  forget(which: (question: T) => boolean): void {
    for (const [id, { question }] of this.#asked) if (which(question)) this.#asked.delete(id);
  }

  /** How many of them nobody has answered in time; they are over. */
  expire(nowMs: number): number {
    const before = this.#asked.size;
    for (const [id, { deadlineMs }] of this.#asked) if (deadlineMs <= nowMs) this.#asked.delete(id);
    return before - this.#asked.size;
  }

  /** When the next is over. All have the same time limit: who was asked first is first. */
  nextMs(): number {
    const [first] = this.#asked.values();
    return first?.deadlineMs ?? Infinity;
  }
}
