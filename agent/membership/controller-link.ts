import { setTimeout as delay } from "node:timers/promises";
import type { ControlClient } from "../../controller/wire/client.ts";
import type { AnswerOf, ControlAnswer, ControlRequest } from "../../controller/wire/messages.ts";
import type { SignedState, Takes } from "../../shared/cluster-state.ts";
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
  /** What the controller may answer of it. */
  takes(): Takes;
  /** It is to be handed on as hosts of 0.1.0 take it, and is not here so. */
  lacksWhole(): boolean;
  /** The controller is on this host. */
  isController(): boolean;
  /** The controller has nothing newer. */
  isNewest(revision: number): void;
  /** False: what came leads nowhere from what is held. */
  came(signed: SignedState): Promise<boolean>;
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
  /** The newest revision that the watch told. */
  #told = 0;
  #isFollowing = false;
  /** At which revision the state was asked for whole. */
  #wholeAsked: number | undefined;
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
      return this.#client.request({ ...request, holds, takes: this.#state.takes() }, kind);
    });
    const { answer } = await this.#noting(asking);
    const state = "state" in answer ? answer.state : undefined;
    if (state !== undefined && !(await this.#state.came(state))) await this.#askAgain();
    return answer;
  }

  /** Asks for the newest state. @throws as `request`; UNAUTHENTICATED: this host is no member. */
  async refresh(): Promise<void> {
    const revision = this.#state.revision();
    const state = await this.#newest(revision, this.#state.takes());
    if (state === undefined) this.#state.isNewest(revision);
    else if (!(await this.#merge(state))) await this.#askAgain();
  }

  start(): void {
    this.#runs = true;
    this.stateChanged();
  }

  /** The controller may have moved here, or away: while it is here, new states come from it, then by gossip to all. */
  stateChanged(): void {
    this.#fetchWhole();
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

  async #newest(revision: number, takes: Takes): Promise<SignedState | undefined> {
    const asking = this.#client.request({ v: 1, kind: "state", revision, takes }, "state");
    return (await this.#noting(asking)).answer.state;
  }

  /** For all of it, whatever is held. */
  async #askAgain(): Promise<void> {
    const { held: _, ...takes } = this.#state.takes();
    const state = await this.#newest(this.#state.revision(), takes);
    if (state !== undefined) await this.#merge(state);
  }

  /** Who is beside the controller has it first, so it is asked here, once for each state. */
  #fetchWhole(): void {
    const held = this.#state;
    if (!this.#runs || !held.isController() || !held.lacksWhole()) return;
    const revision = held.revision();
    if (this.#wholeAsked === revision) return;
    this.#wholeAsked = revision;
    this.#newest(0, held.takes())
      .then((state) => state && this.#merge(state))
      .catch(() => (this.#wholeAsked = undefined));
  }

  /** @returns false as `HeldState.came` */
  async #merge(state: SignedState): Promise<boolean> {
    try {
      return await this.#state.came(state);
    } catch (error) {
      this.#log.warn(
        { err: error },
        "a state from the controller was refused; the one before stays in force",
      );
      return true;
    }
  }

  /**
   * One question after another until what was told is here, or one brings nothing. When a watch begins one is asked in any case:
   * the controller may have started, and knows by it what the hosts take.
   */
  async #follow(revision: number, isFirst: boolean): Promise<void> {
    this.#told = Math.max(this.#told, revision);
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    try {
      if (isFirst) await this.refresh();
      for (let held = -1; held < this.#state.revision() && this.#state.revision() < this.#told;) {
        held = this.#state.revision();
        await this.refresh();
      }
    } catch (error) {
      this.#log.debug(
        { err: error },
        "the controller's newest state was not had; it is asked again",
      );
    } finally {
      this.#isFollowing = false;
    }
  }

  async #watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let isFirst = true;
      try {
        await this.#client.watch((news) => {
          this.#retried.went(undefined);
          void ("state" in news ? this.#merge(news.state) : this.#follow(news.revision, isFirst));
          isFirst = false;
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
