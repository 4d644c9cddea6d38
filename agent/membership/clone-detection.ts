import type { Failure } from "../../shared/errors.ts";
import type { Log } from "../../shared/ports.ts";
import { RetriedWork } from "../../shared/node/retried-work.ts";

export interface CloneDetectionModules {
  /** This machine's. */
  readonly bootId: string;
  /** Of another one that takes part with this host's identity now. */
  readonly otherMachine: () => string | undefined;
  /** `failure` says something else. */
  readonly changed: () => void;
  readonly log: Log;
}

/** Whether this host is one machine: each of two that are says so, for nobody else can tell which of them is meant. */
export class CloneDetection {
  readonly #modules: CloneDetectionModules;
  readonly #retried: RetriedWork;

  constructor(modules: CloneDetectionModules) {
    this.#modules = modules;
    this.#retried = new RetriedWork((failure) => {
      if (failure !== undefined)
        modules.log.error({ ...failure }, "another machine has this host's identity");
      modules.changed();
    });
  }

  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  /** With whatever changes in the cluster, and with the periodic resync. */
  look(): void {
    const { bootId, otherMachine } = this.#modules;
    const other = otherMachine();
    this.#retried.went(other === undefined ? undefined : cloned(other, bootId));
  }
}

function cloned(other: string, own: string): Failure {
  return {
    code: "CONFLICT",
    message: `another machine takes part with this host's identity: one was cloned from the other (boot id here ${own}, there ${other})`,
    next: "on the copy (`cat /proc/sys/kernel/random/boot_id`): `systemctl stop overlay-ts-agent`, `overlay-ts leave --force`, start the agent, and `join` with a new token; no `node rm`, for the other goes on",
  };
}
