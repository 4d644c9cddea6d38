import { setTimeout as delay } from "node:timers/promises";
import type { ControlClient } from "../controller/wire/client.ts";
import type { AnswerOf, ControlAnswer, ControlRequest } from "../controller/wire/messages.ts";
import type { SignedState } from "../shared/cluster-state.ts";
import { asFailure } from "../shared/errors.ts";
import { AtMost } from "./at-most.ts";
import type { Log } from "../shared/ports.ts";

const WATCH_RETRY_MS = 1000;
/** The controller does one after another, and each has its time limit: what waits, waits here. */
const REQUESTS_AT_ONCE = 4;

/** This host's line to the controller: what an answer says of the state is merged before it returns. */
export class ControllerLink {
  readonly #client: ControlClient;
  readonly #stateCame: (signed: SignedState) => Promise<void>;
  readonly #log: Log;
  readonly #stopping = new AbortController();
  readonly #underWay = new AtMost(REQUESTS_AT_ONCE);
  #watching: Promise<void> = Promise.resolve();

  constructor(client: ControlClient, stateCame: (signed: SignedState) => Promise<void>, log: Log) {
    this.#client = client;
    this.#stateCame = stateCame;
    this.#log = log;
  }

  /** @throws UNREACHABLE, or what the controller refused in its own words. */
  async request<K extends ControlAnswer["kind"]>(
    request: ControlRequest,
    kind: K,
  ): Promise<AnswerOf<K>> {
    const { answer } = await this.#underWay.run(() => this.#client.request(request, kind));
    const state = "state" in answer ? answer.state : undefined;
    if (state !== undefined) await this.#stateCame(state);
    return answer;
  }

  /** On the controller's own host: new states come from here, then by gossip to all others. */
  watch(): void {
    this.#watching = this.#watch();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
    await this.#client.close();
  }

  async #merge(state: SignedState): Promise<void> {
    try {
      await this.#stateCame(state);
    } catch (error) {
      this.#log.warn({ ...asFailure(error) }, "a state was refused");
    }
  }

  async #watch(): Promise<void> {
    const { signal } = this.#stopping;
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
