import { difference } from "../core/events/events.ts";
import { type View, ViewReader, type ViewSources } from "../core/events/view.ts";
import type { EventLog } from "./event-log.ts";

/** Changes within this time are read together. */
const COALESCE_MS = 5;

/**
 * Tells what happened: the difference of what is seen now and what was seen last. So nothing that
 * changes anything has to remember to say so, only that something may be different.
 */
export class EventSource {
  readonly #sources: () => ViewSources;
  readonly #events: EventLog;
  readonly #reader = new ViewReader();
  #seen: View | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(sources: () => ViewSources, events: EventLog) {
    this.#sources = sources;
    this.#events = events;
  }

  /** The present state counts as known: it makes no events. Problems do: who looks for when they began finds the start. */
  start(): void {
    const now = this.#reader.read(this.#sources());
    this.#seen = now;
    this.#events.add([{ kind: "started" }, ...difference({ ...now, problems: new Map() }, now)]);
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
