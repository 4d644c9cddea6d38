import { difference } from "./core/events.ts";
import { type View, ViewReader, type ViewSources } from "./core/view.ts";
import type { EventLog } from "./event-log.ts";

/** What follows a change within this time is read with it. */
const COALESCE_MS = 5;

/**
 * Tells what happened: the difference of what is seen now and what was seen last. So nothing that
 * changes anything has to remember to say so, only that something may be different.
 */
export class Watching {
  readonly #sources: () => ViewSources;
  readonly #events: EventLog;
  readonly #reader = new ViewReader();
  #seen: View | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(sources: () => ViewSources, events: EventLog) {
    this.#sources = sources;
    this.#events = events;
  }

  /** What is there now was there before: it is in no event. */
  start(): void {
    this.#seen = this.#reader.read(this.#sources());
    this.#events.add([{ kind: "started" }]);
  }

  dirty(): void {
    if (this.#seen !== undefined) this.#timer ??= setTimeout(() => this.#look(), COALESCE_MS);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#seen = undefined;
    this.#events.end();
  }

  #look(): void {
    this.#timer = undefined;
    if (this.#seen === undefined) return;
    const before = this.#seen;
    this.#seen = this.#reader.read(this.#sources());
    this.#events.add(difference(before, this.#seen));
  }
}
