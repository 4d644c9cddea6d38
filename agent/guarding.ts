import { setTimeout as delay } from "node:timers/promises";
import { asFailure, type Failure } from "../shared/errors.ts";
import type { Log } from "../shared/ports.ts";
import type { DesiredGuards } from "./core/data-plane.ts";
import type { Guards } from "./kernel/port.ts";

const COALESCE_MS = 5;
const RETRY_MS = 500;

/** Keeps the host's guards as the tables say: at once, then coalesced, and again until it succeeds. */
export class Guarding {
  readonly #guards: Guards;
  readonly #want: () => DesiredGuards | undefined;
  readonly #log: Log;
  readonly #changed: () => void;
  readonly #waiting: (() => void)[] = [];
  #dirty = false;
  #passing = false;
  #stopped = false;
  #loop: Promise<void> | undefined;
  #failure: Failure | undefined;
  #tampered = 0;

  /** `changed`: `failure` or `tampered` may say something else. */
  constructor(
    guards: Guards,
    want: () => DesiredGuards | undefined,
    log: Log,
    changed: () => void = () => {},
  ) {
    this.#guards = guards;
    this.#want = want;
    this.#log = log;
    this.#changed = changed;
  }

  /** Before any device exists. @throws NETLINK: without guards there is no network. */
  async start(): Promise<void> {
    await this.#pass();
    this.#guards.onTamper(() => {
      this.#log.warn({}, "the guards were changed by somebody else and are put back");
      this.#tampered++;
      this.#changed();
      this.dirty();
    });
  }

  dirty(): void {
    if (this.#stopped) return;
    this.#dirty = true;
    this.#loop ??= this.#run();
  }

  /** What was dirty when it was asked is written: a container's first answers pass. */
  async settled(): Promise<void> {
    if (this.#dirty || this.#passing || this.#failure !== undefined)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** Written again should they be another than what was written. */
  async check(): Promise<void> {
    if (!(await this.#guards.verify().catch(() => false))) this.dirty();
  }

  /** Of the last pass; undefined when it succeeded. */
  failure(): Failure | undefined {
    return this.#failure;
  }

  /** How often somebody else changed them, since the start. */
  tampered(): number {
    return this.#tampered;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (this.#dirty && !this.#stopped) {
      this.#dirty = false;
      this.#passing = true;
      try {
        await this.#pass();
        this.#passing = false;
        this.#fail(undefined);
        for (const resolve of this.#waiting.splice(0)) resolve();
        await delay(COALESCE_MS);
      } catch (error) {
        const failure = asFailure(error);
        this.#fail(failure);
        this.#log.error({ ...failure }, "guards not written");
        this.#dirty = true;
        await delay(RETRY_MS);
      }
    }
    for (const resolve of this.#waiting.splice(0)) resolve();
    this.#loop = undefined;
  }

  #fail(failure: Failure | undefined): void {
    const same = this.#failure === failure;
    this.#failure = failure;
    if (!same) this.#changed();
  }

  async #pass(): Promise<void> {
    const desired = this.#want();
    if (desired !== undefined) await this.#guards.set(desired);
  }
}
