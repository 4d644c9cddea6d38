import { setTimeout as delay } from "node:timers/promises";
import { asFailure, OverlayError, type Failure } from "../shared/errors.ts";
import type { NetworkId } from "../shared/ids.ts";
import type { Log } from "../shared/ports.ts";
import type { ActualNetwork, DesiredNetwork, Step } from "./core/data-plane.ts";
import type { Wanted } from "./core/wanted.ts";
import type { Kernel } from "./kernel/port.ts";

export interface ReconcilerModules {
  readonly kernel: Pick<Kernel, "read" | "apply">;
  readonly want: (network: NetworkId) => Wanted;
  readonly plan: (
    actual: ActualNetwork,
    desired: DesiredNetwork | undefined,
    inSync: boolean,
  ) => readonly Step[];
  /** A network's pass failed, or succeeded after one that did. */
  readonly failureChanged?: () => void;
  readonly log: Log;
}

export interface ReconcilerOptions {
  /** What follows the first event within this time shares its pass. */
  readonly coalesceMs: number;
  readonly retryFirstMs: number;
  readonly retryMaxMs: number;
}

export const DEFAULT_RECONCILER_OPTIONS: ReconcilerOptions = {
  coalesceMs: 5,
  retryFirstMs: 100,
  retryMaxMs: 10_000,
};

/** How a network stands, for `status`. */
export interface PassStatus {
  readonly passes: number;
  readonly stepsApplied: number;
  readonly failures: number;
  /** Of the last pass; undefined when it succeeded. */
  readonly failure: Failure | undefined;
}

interface Entry {
  /** A change came that no pass has read yet. */
  dirty: boolean;
  loop: Promise<void> | undefined;
  /** Cuts a coalescing or backoff wait short. */
  hurry: AbortController;
  waiting: { resolve: () => void; reject: (error: unknown) => void }[];
  status: PassStatus;
  /** A pass is under way. */
  passSinceMs: number | undefined;
}

/**
 * Level-triggered: events only mark a network dirty; one pass a network at a time reads the
 * kernel, recomputes what is wanted, and applies the difference. A failed pass leaves the network
 * dirty and is retried with backoff; one network's failure stops no other.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #modules: ReconcilerModules;
  readonly #entries = new Map<NetworkId, Entry>();
  #stopped = false;

  constructor(options: ReconcilerOptions, modules: ReconcilerModules) {
    this.#options = options;
    this.#modules = modules;
  }

  /** The first event runs at once; what follows is coalesced. */
  dirty(network: NetworkId): void {
    if (this.#stopped) return;
    const entry = this.#entry(network);
    entry.dirty = true;
    this.#run(network, entry);
  }

  /**
   * Resolves after a pass that began after this call; rejects with that pass's failure (which is
   * retried all the same). For Docker's Join: the container starts with its network in place.
   */
  settle(network: NetworkId): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#stopped) {
        reject(new OverlayError({ code: "INTERNAL", message: "the agent is stopping" }));
        return;
      }
      const entry = this.#entry(network);
      entry.waiting.push({ resolve, reject });
      entry.dirty = true;
      entry.hurry.abort();
      this.#run(network, entry);
    });
  }

  status(network: NetworkId): PassStatus | undefined {
    return this.#entries.get(network)?.status;
  }

  /** Networks whose last pass failed. */
  failures(): { network: NetworkId; failure: Failure }[] {
    return [...this.#entries].flatMap(
      ([
        network,
        {
          status: { failure },
        },
      ]) => (failure === undefined ? [] : [{ network, failure }]),
    );
  }

  /** Since when the oldest pass is under way; a network that waits for its next has none. */
  passSinceMs(): number | undefined {
    const since = [...this.#entries.values()].flatMap(({ passSinceMs }) => passSinceMs ?? []);
    return since.length === 0 ? undefined : Math.min(...since);
  }

  /** Ends after the passes under way; the kernel stays as it is. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const entry of this.#entries.values()) entry.hurry.abort();
    await Promise.all([...this.#entries.values()].map((entry) => Promise.resolve(entry.loop)));
  }

  #entry(network: NetworkId): Entry {
    let entry = this.#entries.get(network);
    if (entry === undefined) {
      entry = {
        dirty: false,
        loop: undefined,
        hurry: new AbortController(),
        waiting: [],
        status: { passes: 0, stepsApplied: 0, failures: 0, failure: undefined },
        passSinceMs: undefined,
      };
      this.#entries.set(network, entry);
    }
    return entry;
  }

  #run(network: NetworkId, entry: Entry): void {
    entry.loop ??= this.#loop(network, entry);
  }

  async #loop(network: NetworkId, entry: Entry): Promise<void> {
    let retryMs = this.#options.retryFirstMs;
    while (entry.dirty) {
      entry.dirty = false;
      entry.hurry = new AbortController();
      const waiting = entry.waiting.splice(0);
      entry.passSinceMs = performance.now();
      const failedBefore = entry.status.failure !== undefined;
      const failure = await this.#pass(network, entry);
      entry.passSinceMs = undefined;
      if (failedBefore || failure !== undefined) this.#modules.failureChanged?.();
      for (const { resolve, reject } of waiting)
        if (failure === undefined) resolve();
        else reject(failure.error);
      if (this.#stopped) break;
      if (failure === undefined) {
        retryMs = this.#options.retryFirstMs;
        await this.#wait(this.#options.coalesceMs, entry);
      } else {
        entry.dirty = true;
        await this.#wait(retryMs, entry);
        retryMs = Math.min(retryMs * 2, this.#options.retryMaxMs);
      }
    }
    // In the same breath as the last look at `dirty`: who comes after it starts another loop.
    entry.loop = undefined;
  }

  async #pass(network: NetworkId, entry: Entry): Promise<{ error: unknown } | undefined> {
    const { kernel, want, plan, log } = this.#modules;
    const before = entry.status;
    try {
      const actual = await kernel.read(network);
      // Asked after the read: a change made during it is seen now, not a pass later.
      const { desired, inSync } = want(network);
      const steps = plan(actual, desired, inSync);
      if (steps.length > 0) {
        await kernel.apply(network, steps);
        log.info({ network, applied: steps.length }, "network reconciled");
      }
      entry.status = {
        ...before,
        passes: before.passes + 1,
        stepsApplied: before.stepsApplied + steps.length,
        failure: undefined,
      };
      return undefined;
    } catch (error) {
      const failure = asFailure(error);
      entry.status = {
        ...before,
        passes: before.passes + 1,
        failures: before.failures + 1,
        failure,
      };
      log.warn(
        { network, op: failure.op, errno: failure.errno, message: failure.message },
        "pass failed",
      );
      return { error };
    }
  }

  async #wait(ms: number, entry: Entry): Promise<void> {
    try {
      await delay(ms, undefined, { signal: entry.hurry.signal });
    } catch {
      // Hurried on: the next pass starts now.
    }
  }
}
