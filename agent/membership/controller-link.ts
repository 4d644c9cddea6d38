import { setTimeout as delay } from "node:timers/promises";
import type { ControlClient } from "../../controller/wire/client.ts";
import type { AnswerOf, ControlAnswer, ControlRequest } from "../../controller/wire/messages.ts";
import type { SignedState } from "../../shared/cluster-state.ts";
import { asFailure, type ErrorCode, type Failure } from "../../shared/errors.ts";
import { Semaphore } from "../../shared/node/semaphore.ts";
import type { Log } from "../../shared/ports.ts";
import { RetriedWork } from "../../shared/node/retried-work.ts";

const WATCH_RETRY_MS = 1000;
/** The controller does one after another, and each has its time limit: what waits, waits here. */
const REQUESTS_AT_ONCE = 4;

/** Of the controller itself, not of what it was asked. */
const AWAY: ReadonlySet<ErrorCode> = new Set(["UNREACHABLE", "TIMEOUT", "STALE"]);

export type MemberRequest = Exclude<ControlRequest, { kind: "join" | "state" }>;

export interface HeldState {
  /** Of the state that this host holds. */
  revision(): number;
  /** The controller is on this host. */
  isController(): boolean;
  came(signed: SignedState): Promise<void>;
}

/** This host's line to the controller: what an answer says of the state is merged before it returns. */
export class ControllerLink {
  readonly #client: ControlClient;
  readonly #state: HeldState;
  readonly #log: Log;
  readonly #underWay = new Semaphore(REQUESTS_AT_ONCE);
  readonly #retried: RetriedWork;
  #runs = false;
  #looking = false;
  #stopWatching: AbortController | undefined;
  #watching: Promise<void> = Promise.resolve();

  /** `changed`: `failure` says something else. */
  constructor(client: ControlClient, state: HeldState, log: Log, changed: () => void = () => {}) {
    this.#client = client;
    this.#state = state;
    this.#log = log;
    this.#retried = new RetriedWork((failure) => {
      if (failure !== undefined)
        log.warn({ ...failure }, "the controller decides nothing; what runs goes on");
      changed();
    });
  }

  /** Why it decided nothing when it was asked last; undefined: it did, or was not asked. */
  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  /** One that was away may be back, and nobody has anything to ask of it. */
  check(): void {
    if (this.failure() !== undefined) this.#look();
  }

  /** @throws UNREACHABLE, or what the controller refused in its own words. */
  async request<K extends ControlAnswer["kind"]>(
    request: MemberRequest,
    kind: K,
  ): Promise<AnswerOf<K>> {
    const asking = this.#underWay.run(() => {
      // A controller that knows less than this host was restored from a backup: it must say so.
      const holds = this.#state.revision();
      return this.#client.request({ ...request, holds }, kind);
    });
    const { answer } = await this.#noting(asking);
    const state = "state" in answer ? answer.state : undefined;
    if (state !== undefined) await this.#state.came(state);
    return answer;
  }

  /** Asks for the newest state. @throws as `request`; UNAUTHENTICATED: this host is no member. */
  async refresh(): Promise<void> {
    const revision = this.#state.revision();
    const asking = this.#client.request({ v: 1, kind: "state", revision }, "state");
    const { answer } = await this.#noting(asking);
    if (answer.state !== undefined) await this.#merge(answer.state);
  }

  start(): void {
    this.#runs = true;
    this.stateChanged();
  }

  /** The controller may have moved here, or away: while it is here, new states come from it, then by gossip to all. */
  stateChanged(): void {
    const watches = this.#runs && this.#state.isController();
    if (watches === (this.#stopWatching !== undefined)) return;
    this.#stopWatching?.abort();
    this.#stopWatching = watches ? new AbortController() : undefined;
    if (this.#stopWatching !== undefined) this.#watching = this.#watch(this.#stopWatching.signal);
  }

  async stop(): Promise<void> {
    this.#runs = false;
    this.stateChanged();
    await this.#watching;
    await this.#client.close();
  }

  /** Whatever else is asked: a controller that refuses is there. */
  async #noting<T>(asking: Promise<T>): Promise<T> {
    try {
      const answer = await asking;
      this.#retried.went(undefined);
      return answer;
    } catch (error) {
      const failure = asFailure(error);
      this.#retried.went(AWAY.has(failure.code) ? failure : undefined);
      throw error;
    }
  }

  /** Not waited for: an agent that is to end does not wait for a controller that is silent. */
  #look(): void {
    if (this.#looking) return;
    this.#looking = true;
    this.refresh()
      .catch(() => {})
      .finally(() => (this.#looking = false));
  }

  async #merge(state: SignedState): Promise<void> {
    try {
      await this.#state.came(state);
    } catch (error) {
      this.#log.warn(
        { err: error },
        "a state from the controller was refused; the one before stays in force",
      );
    }
  }

  async #watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#client.watch((state) => {
          this.#retried.went(undefined);
          void this.#merge(state);
        }, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#log.debug({ err: error }, "the watch on the controller ended; it begins again");
      }
      await delay(WATCH_RETRY_MS, undefined, { signal }).catch(() => {});
      // Nobody may ask it anything for hours: why it is not there is found out.
      if (!signal.aborted) this.#look();
    }
  }
}
