import { OverlayError } from "../../shared/errors.ts";
import type { Clock } from "../../shared/ports.ts";
import type { Happening } from "../core/events/events.ts";
import type { Loss } from "../store/loss.ts";

/** The agent's own beginning: what was there then is in no event. */
type Started = { readonly kind: "started" };
/** What its disk had, and cannot be read any more. */
type LostFromDisk = { readonly kind: "lost-from-disk" } & Loss;

export type Event = (Happening | Started | LostFromDisk) & {
  /** Counts from 1 since the agent started. */
  readonly seq: number;
  /** RFC 3339, UTC, this host's clock. */
  readonly at: string;
};

/**
 * Events for one reader; first, when some of those asked for are no longer kept, how many
 * there are of such in all.
 */
export type Told = Event | { readonly kind: "missed"; readonly count: number };

export interface EventLogOptions {
  readonly kept: number;
  readonly followers: number;
  /** Events that wait for one follower to read them. */
  readonly behind: number;
}

/** An event is some 300 bytes, and those that wait are the same for all followers. */
export const DEFAULT_EVENT_LOG_OPTIONS: EventLogOptions = {
  kept: 1000,
  followers: 16,
  // More than a host hears at once when it comes to a full network.
  behind: 20_000,
};

export interface Question {
  /** Events of the last so many milliseconds; undefined: all that are kept. */
  readonly sinceMs?: number | undefined;
  /** Those to come too, until `signal` aborts or the agent ends. */
  readonly follow: boolean;
  readonly wanted: (event: Event) => boolean;
}

interface Follower {
  readonly wanted: (event: Event) => boolean;
  waiting: Told[];
  failure: OverlayError | undefined;
  wake: () => void;
}

/** The last events, and who follows them. */
export class EventLog {
  readonly #clock: Clock;
  readonly #options: EventLogOptions;
  readonly #kept: { wallMs: number; event: Event }[] = [];
  readonly #followers = new Set<Follower>();
  #seq = 0;
  #dropped = 0;
  /** When the newest of them happened. */
  #droppedMs = -Infinity;
  #tooSlow = 0;
  #ended = false;

  constructor(clock: Clock, options: EventLogOptions = DEFAULT_EVENT_LOG_OPTIONS) {
    this.#clock = clock;
    this.#options = options;
  }

  add(happenings: readonly (Happening | Started | LostFromDisk)[]): void {
    if (this.#ended) return;
    const wallMs = this.#clock.wallMs();
    const at = new Date(wallMs).toISOString();
    for (const happening of happenings) {
      const event = { seq: ++this.#seq, at, ...happening };
      this.#kept.push({ wallMs, event });
      for (const follower of this.#followers) this.#offer(follower, event);
    }
    const over = this.#kept.length - this.#options.kept;
    if (over <= 0) return;
    const dropped = this.#kept.splice(0, over);
    this.#dropped += over;
    this.#droppedMs = dropped.at(-1)?.wallMs ?? this.#droppedMs;
  }

  /** Some event that is kept says it. */
  knows(wanted: (event: Event) => boolean): boolean {
    return this.#kept.some(({ event }) => wanted(event));
  }

  /** @throws FULL at once, not when it is read; when it is read, TOO_LARGE for who reads too slowly. */
  read({ sinceMs, follow, wanted }: Question, signal: AbortSignal): AsyncIterable<Told> {
    const oldestMs = sinceMs === undefined ? -Infinity : this.#clock.wallMs() - sinceMs;
    const kept = this.#kept.filter(({ wallMs }) => wallMs >= oldestMs);
    const found = kept.flatMap(({ event }) => (wanted(event) ? [event] : []));
    const missed = this.#dropped > 0 && this.#droppedMs >= oldestMs;
    const first: Told[] = missed ? [{ kind: "missed", count: this.#dropped }] : [];
    const waiting = [...first, ...found];
    const follower = { wanted, waiting, failure: undefined, wake: () => {} };
    if (!follow) return told(follower, AbortSignal.abort());
    if (this.#followers.size >= this.#options.followers)
      throw new OverlayError({
        code: "FULL",
        message: `${this.#followers.size} commands follow this agent's events already`,
        next: "end one of them",
      });
    this.#followers.add(follower);
    const leave = (): void => {
      this.#followers.delete(follower);
      // Awake, it sees that it is not wanted any more.
      follower.wake();
    };
    signal.addEventListener("abort", leave, { once: true });
    if (signal.aborted) leave();
    return told(follower, signal);
  }

  counters(): Readonly<Record<string, number>> {
    const { size } = this.#followers;
    const [kept, dropped, tooSlow] = [this.#kept.length, this.#dropped, this.#tooSlow];
    return { told: this.#seq, kept, dropped, followers: size, tooSlow };
  }

  /** Who follows is told so. */
  end(): void {
    this.#ended = true;
    for (const follower of this.#followers) {
      follower.failure ??= new OverlayError({
        code: "UNREACHABLE",
        message: "the agent has ended, and its events with it",
        next: "when it runs again, run the command again",
      });
      follower.wake();
    }
  }

  #offer(follower: Follower, event: Event): void {
    if (follower.failure !== undefined || !follower.wanted(event)) return;
    if (follower.waiting.length < this.#options.behind) follower.waiting.push(event);
    else {
      this.#tooSlow++;
      follower.waiting = [];
      follower.failure = new OverlayError({
        code: "TOO_LARGE",
        message: `${this.#options.behind} events were not read in time: those after them are not told`,
        next: "run the command again with --since, and read its output as it comes",
      });
    }
    follower.wake();
  }
}

/** Until there is nothing more and `until` aborts. @throws what the follower failed with */
async function* told(follower: Follower, until: AbortSignal): AsyncGenerator<Told> {
  for (;;) {
    const { waiting } = follower;
    follower.waiting = [];
    yield* waiting;
    if (follower.waiting.length > 0) continue;
    if (follower.failure !== undefined) throw follower.failure;
    if (until.aborted) return;
    await new Promise<void>((resolve) => (follower.wake = resolve));
  }
}
