import { setTimeout as delay } from "node:timers/promises";
import { asFailure, type Failure } from "../../shared/errors.ts";
import type { Log } from "../../shared/ports.ts";
import type { DockerEngine, EngineEvent } from "./engine/port.ts";
import { RetriedWork } from "../../shared/node/retried-work.ts";

const RETRY_MS = 1000;

export interface EngineEventsModules {
  readonly engine: Pick<DockerEngine, "events">;
  readonly heard: (event: EngineEvent) => void;
  /** `failure` says something else. */
  readonly failureChanged?: () => void;
  readonly log: Log;
}

/** The engine's events, opened again whenever they end. */
export class EngineEvents {
  readonly #modules: EngineEventsModules;
  readonly #retryMs: number;
  readonly #retried: RetriedWork;

  constructor(modules: EngineEventsModules, retryMs = RETRY_MS) {
    this.#modules = modules;
    this.#retryMs = retryMs;
    this.#retried = new RetriedWork((failure) => {
      if (failure !== undefined)
        modules.log.warn({ ...failure }, "no events from Docker; the stream is opened again");
      modules.failureChanged?.();
    });
  }

  /** Why nothing is heard. Of an engine that is away others say it, who ask it things. */
  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  /** Until `signal` aborts. */
  async listen(signal: AbortSignal): Promise<void> {
    let broken = 0;
    while (!signal.aborted) {
      try {
        for await (const event of this.#modules.engine.events(signal)) {
          broken = 0;
          this.#retried.went(undefined);
          this.#modules.heard(event);
        }
      } catch (error) {
        if (signal.aborted) return;
        const failure = asFailure(error);
        // One that starts again breaks it once.
        if (failure.code !== "UNREACHABLE" && ++broken > 1) this.#retried.went(deaf(failure));
      }
      await delay(this.#retryMs, undefined, { signal }).catch(() => {});
    }
  }
}

function deaf({ code, message, next }: Failure): Failure {
  return {
    code,
    message: `no events come from the engine: ${message}`,
    next:
      next ??
      "see its log, `journalctl -u docker`; what changes there is found within half a minute",
  };
}
