import { setTimeout as delay } from "node:timers/promises";
import type { ControlClient } from "../controller/wire/client.ts";
import type { AnswerOf, ControlAnswer, ControlRequest } from "../controller/wire/messages.ts";
import type { SignedState } from "../shared/cluster-state.ts";
import { asFailure, type ErrorCode, type Failure } from "../shared/errors.ts";
import { AtMost } from "./at-most.ts";
import type { Log } from "../shared/ports.ts";

const WATCH_RETRY_MS = 1000;
/** The controller does one after another, and each has its time limit: what waits, waits here. */
const REQUESTS_AT_ONCE = 4;

/** Of the controller itself, not of what it was asked. */
const AWAY: ReadonlySet<ErrorCode> = new Set(["UNREACHABLE", "STALE"]);

export type MemberRequest = Exclude<ControlRequest, { kind: "join" | "state" }>;

export interface HeldState {
  /** Of the state that this host holds. */
  revision(): number;
  came(signed: SignedState): Promise<void>;
}

/** This host's line to the controller: what an answer says of the state is merged before it returns. */
export class ControllerLink {
  readonly #client: ControlClient;
  readonly #state: HeldState;
  readonly #log: Log;
  readonly #underWay = new AtMost(REQUESTS_AT_ONCE);
  #failure: Failure | undefined;
  #stopWatching: AbortController | undefined;
  #watching: Promise<void> = Promise.resolve();

  constructor(client: ControlClient, state: HeldState, log: Log) {
    this.#client = client;
    this.#state = state;
    this.#log = log;
  }

  /** Why it decided nothing when it was asked last; undefined: it did, or was not asked. */
  failure(): Failure | undefined {
    return this.#failure;
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
    const { answer } = await asking.catch((error: unknown) => {
      const failure = asFailure(error);
      this.#failure = AWAY.has(failure.code) ? failure : undefined;
      throw error;
    });
    this.#failure = undefined;
    const state = "state" in answer ? answer.state : undefined;
    if (state !== undefined) await this.#state.came(state);
    return answer;
  }

  /** Asks for the newest state. @throws as `request`; UNAUTHENTICATED: this host is no member. */
  async refresh(): Promise<void> {
    const revision = this.#state.revision();
    const { answer } = await this.#client.request({ v: 1, kind: "state", revision }, "state");
    if (answer.state !== undefined) await this.#merge(answer.state);
  }

  /** While this is the controller's own host: new states come from here, then by gossip to all others. */
  watch(isOwnHost: boolean): void {
    if (isOwnHost === (this.#stopWatching !== undefined)) return;
    this.#stopWatching?.abort();
    this.#stopWatching = isOwnHost ? new AbortController() : undefined;
    if (this.#stopWatching !== undefined) this.#watching = this.#watch(this.#stopWatching.signal);
  }

  async stop(): Promise<void> {
    this.watch(false);
    await this.#watching;
    await this.#client.close();
  }

  async #merge(state: SignedState): Promise<void> {
    try {
      await this.#state.came(state);
    } catch (error) {
      this.#log.warn({ ...asFailure(error) }, "a state was refused");
    }
  }

  async #watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#client.watch((state) => void this.#merge(state), signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#log.debug({ message: asFailure(error).message }, "controller not watched");
      }
      await delay(WATCH_RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }
}
