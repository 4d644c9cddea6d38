/** One source of news. Who needs them subscribes where it is made, and is told at once, in the order of subscribing. */
export class Signal<News extends readonly unknown[] = []> {
  readonly #listeners: ((...news: News) => void)[] = [];

  on(listener: (...news: News) => void): void {
    this.#listeners.push(listener);
  }

  emit(...news: News): void {
    for (const listener of this.#listeners) listener(...news);
  }
}
