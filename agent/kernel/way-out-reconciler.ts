import type { Failure } from "../../shared/errors.ts";
import type { Log } from "../../shared/ports.ts";
import type { WayOut } from "./port.ts";
import { PassLoop } from "../../shared/node/pass-loop.ts";

/** Keeps the ports of docker_gwbridge isolated and bound: Docker's news and others' changes only mark them dirty. */
export class WayOutReconciler {
  readonly #wayOut: WayOut;
  readonly #loop: PassLoop;

  /** `changed`: `failure` may say something else. */
  constructor(wayOut: WayOut, log: Log, changed: () => void = () => {}) {
    this.#wayOut = wayOut;
    this.#loop = new PassLoop(
      () => wayOut.set(),
      (failure) => {
        if (failure !== undefined)
          log.error({ ...failure }, "isolating docker_gwbridge's ports failed; tried again");
        changed();
      },
    );
  }

  /** Ends with the first pass; one that fails is tried again. */
  async start(): Promise<void> {
    this.#wayOut.onChange(() => this.#loop.dirty());
    this.#loop.dirty();
    await this.#loop.tried();
  }

  /** What no event told. */
  check(): void {
    this.#wayOut.recheck();
    this.#loop.dirty();
  }

  /** Of the last pass; undefined when it succeeded. */
  failure(): Failure | undefined {
    return this.#loop.failure();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
    this.#wayOut.close();
  }
}
