import type { Failure } from "../../shared/errors.ts";
import type { Log } from "../../shared/ports.ts";
import type { DesiredGuards } from "../core/data-plane/kernel-state.ts";
import type { Guards, GuardWork } from "./port.ts";
import { PassLoop } from "../../shared/node/pass-loop.ts";

/** Keeps a namespace's guards as the tables say: at once, then coalesced, and again until it succeeds. */
export class GuardReconciler {
  readonly #guards: Guards;
  #want: () => DesiredGuards | undefined = () => undefined;
  readonly #log: Log;
  readonly #changed: () => void;
  readonly #loop: PassLoop;
  #tampered = 0;

  /** `changed`: `failure` or `tampered` may say something else. */
  constructor(guards: Guards, log: Log, changed: () => void = () => {}) {
    this.#guards = guards;
    this.#log = log;
    this.#changed = changed;
    this.#loop = new PassLoop(
      () => this.#pass(),
      (failure) => {
        if (failure !== undefined)
          log.error({ ...failure }, "writing the guards failed; tried again");
        changed();
      },
    );
  }

  /**
   * Before any device exists. `want`: what they should be, asked with each pass.
   * @throws NETLINK: without guards there is no network.
   */
  async start(want: () => DesiredGuards | undefined): Promise<void> {
    this.#want = want;
    await this.#pass();
    this.#guards.onTamper(() => {
      this.#log.warn({}, "the guards were changed by somebody else and are put back");
      this.#tampered++;
      this.#changed();
      this.dirty();
    });
  }

  dirty(): void {
    this.#loop.dirty();
  }

  /** What was dirty when it was asked is written: a container's first answers pass. */
  async settled(): Promise<void> {
    await this.#loop.settled();
  }

  /** Written again should they be another than what was written. */
  async check(): Promise<void> {
    if (!(await this.#guards.verify().catch(() => false))) this.dirty();
  }

  /** Of the last pass; undefined when it succeeded. */
  failure(): Failure | undefined {
    return this.#loop.failure();
  }

  /** How often somebody else changed them, since the start. */
  tampered(): number {
    return this.#tampered;
  }

  /** Elements of sets, since the start. */
  work(): GuardWork {
    return this.#guards.work();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #pass(): Promise<void> {
    const desired = this.#want();
    if (desired !== undefined) await this.#guards.set(desired);
  }
}
