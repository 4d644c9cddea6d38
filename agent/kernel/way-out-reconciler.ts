import type { Failure } from "../../shared/errors.ts";
import type { Log } from "../../shared/ports.ts";
import type { WayOut } from "./port.ts";
import { PassLoop } from "../../shared/node/pass-loop.ts";

/** docker_gwbridge's ports (`WayOut`), or the host's part of transits (`Egress`). */
type Kept = Pick<WayOut, "set" | "onChange" | "recheck" | "close">;

/** Keeps a way out as it should be: Docker's news and others' changes only mark it dirty. */
export class WayOutReconciler {
  readonly #wayOut: Kept;
  readonly #loop: PassLoop;

  /** `changed`: `failure` may say something else, or what is kept has another state. */
  constructor(
    wayOut: Kept,
    log: Log,
    { what, changed }: { readonly what: string; readonly changed: () => void },
  ) {
    this.#wayOut = wayOut;
    this.#loop = new PassLoop(
      () => wayOut.set(),
      (failure) => {
        if (failure !== undefined) log.error({ ...failure }, `${what} failed; tried again`);
        changed();
      },
    );
  }

  /** Ends with the first pass; one that fails is tried again. @returns why it failed */
  async start(): Promise<Failure | undefined> {
    this.#wayOut.onChange(() => this.#loop.dirty());
    this.#loop.dirty();
    return this.#loop.tried();
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
